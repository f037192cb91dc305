// What the program looks for in the module: experiments/elastiform/devices.cpp.
#include <cuda_runtime.h>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/errors.hpp"

extern "C" __attribute__((visibility("default"))) elastiform::Backend* elastiform_make_cuda_backend(elastiform::Precision precision) {
  using elastiform::InputError;
  int driver = 0, devices = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    throw InputError({"--device cuda", "an NVIDIA driver", "none", "install one, or use --device cpu"});
  const cudaError_t status = cudaGetDeviceCount(&devices);  // leaves its argument as it is where it fails
  if (status != cudaSuccess || devices == 0)
    throw InputError({"--device cuda", "a GPU", status != cudaSuccess ? cudaGetErrorString(status) : "none", "use --device cpu"});
  constexpr int kOldest = 8;  // sm_80: cp.async, mma of bfloat16
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess || properties.major < kOldest)
    throw InputError({"--device cuda", "a GPU of compute capability 8.0 or later", properties.name, "use --device cpu"});
  return new elastiform::ELASTIFORM_GPU::CudaBackend(precision);
}
