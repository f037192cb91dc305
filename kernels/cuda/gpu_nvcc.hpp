#pragma once

// The names of gpu.hpp for nvcc.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

#include "kernels/cuda/launch.hpp"
#include "kernels/view.hpp"

#define GPU_KERNEL static __global__ void
#define GPU_FUNCTION static __device__ __forceinline__
#define SHARED(T, name, dimensions) __shared__ __align__(16) T name dimensions
#define DYN_SHARED(T, name)                                       \
  extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(dynamic_shared)

namespace elastiform::ELASTIFORM_GPU {

constexpr unsigned int kFullMask = 0xffffffffu;

template <class T>
GPU_FUNCTION float to_float(T x) {
  if constexpr (std::is_same_v<T, BFloat16>) return __uint_as_float(static_cast<unsigned int>(x.bits) << 16);
  else if constexpr (std::is_same_v<T, Float16>) return __half2float(__ushort_as_half(x.bits));
  else return x;
}
template <class T>
GPU_FUNCTION T from_float(float x) {
  if constexpr (std::is_same_v<T, BFloat16>) return BFloat16{__bfloat16_as_ushort(__float2bfloat16_rn(x))};
  else if constexpr (std::is_same_v<T, Float16>) return Float16{__half_as_ushort(__float2half_rn(x))};
  else return x;
}

/// Lets launches of the kernel have that many bytes of dynamic shared memory on the current device, or as many as were asked for before:
/// recorded launches may need these. Throws DeviceError.
void allow_shared_memory(const void* kernel, std::size_t dynamic_bytes);
/// Remembers what is put into a stream, for the message of a failure that is heard of later.
void note(const Launch& launch);

template <class... Parameters, class... Arguments>
void launch(const Launch& l, void (*kernel)(Parameters...), Arguments&&... arguments) {
  if (l.asks && l.shared_bytes > 0) allow_shared_memory(reinterpret_cast<const void*>(kernel), l.shared_bytes);
  note(l);
  kernel<<<dim3(l.grid.x, l.grid.y, l.grid.z), dim3(l.block.x, l.block.y, l.block.z), l.shared_bytes,
           reinterpret_cast<cudaStream_t>(l.stream)>>>(static_cast<Parameters>(arguments)...);
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) throw DeviceError("CUDA kernel " + text(l) + ": " + cudaGetErrorString(status));
}

}  // namespace elastiform::ELASTIFORM_GPU
