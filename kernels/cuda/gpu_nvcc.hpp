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

template <class... Parameters, class... Arguments>
void launch(const Launch& l, void (*kernel)(Parameters...), Arguments&&... arguments) {
  constexpr std::size_t kWithoutAsking = 48 << 10;
  cudaError_t status = cudaSuccess;
  if (l.shared_bytes > kWithoutAsking)
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(l.shared_bytes));
  if (status == cudaSuccess) {
    kernel<<<dim3(l.grid.x, l.grid.y, l.grid.z), dim3(l.block.x, l.block.y, l.block.z), l.shared_bytes,
             reinterpret_cast<cudaStream_t>(l.stream)>>>(static_cast<Parameters>(arguments)...);
    status = cudaGetLastError();
  }
  if (status != cudaSuccess) throw DeviceError("CUDA kernel " + text(l) + ": " + cudaGetErrorString(status));
}

}  // namespace elastiform::ELASTIFORM_GPU
