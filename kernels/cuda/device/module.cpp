// What the program looks for in the module: experiments/elastiform/devices.cpp.
#include <cuda_runtime.h>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/errors.hpp"
#include "kernels_stamp.hpp"

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const char* elastiform_cuda_kernels() { return ELASTIFORM_KERNELS; }

EXPORTED std::int64_t elastiform_cuda_free_bytes() { return elastiform::ELASTIFORM_GPU::device_memory().free; }

EXPORTED elastiform::MemorySpace* elastiform_make_pinned_space() { return new elastiform::ELASTIFORM_GPU::PinnedSpace; }

EXPORTED elastiform::Backend* elastiform_make_cuda_backend(elastiform::Precision precision, bool with_library, elastiform::LinkMaker links,
                                                           int process) {
  using elastiform::InputError;
  int driver = 0, devices = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    throw InputError({"--device cuda", "an NVIDIA driver", "none", "install one, or use --device cpu"});
  const cudaError_t status = cudaGetDeviceCount(&devices);  // leaves its argument as it is where it fails
  if (status != cudaSuccess || devices == 0)
    throw InputError({"--device cuda", process == 0 ? "a GPU" : "a GPU for each process on this machine",
                      status != cudaSuccess ? cudaGetErrorString(status) : "none", "use --device cpu"});
  constexpr int kOldest = 8;  // sm_80: cp.async, mma of bfloat16
  cudaDeviceProp properties;
  const cudaError_t asked = cudaGetDeviceProperties(&properties, 0);
  if (asked != cudaSuccess) throw InputError({"--device cuda", "a GPU that answers", cudaGetErrorString(asked), "use --device cpu"});
  if (properties.major < kOldest)
    throw InputError({"--device cuda", "a GPU of compute capability 8.0 or later", properties.name, "use --device cpu"});
  using namespace elastiform::ELASTIFORM_GPU;
  return new CudaBackend(precision, with_library ? make_library_gemm() : nullptr, links);
}
