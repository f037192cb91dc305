#include "experiments/elastiform/devices.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <filesystem>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/device.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

constexpr const char* kModule = "elastiform_cuda.so";

std::unique_ptr<Backend> make_on_host(Precision precision) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    throw InputError({"--device cuda-on-host", "a processor with AVX2 and FMA", "none", "use --device cpu"});
#endif
  return std::make_unique<cuda_on_host::CudaBackend>(precision);
}

std::unique_ptr<Backend> make_cuda(Precision precision) {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / kModule;
  if (error || !std::filesystem::exists(path, error))
    throw InputError({"--device cuda", std::string(kModule) + " beside the program", "none",
                      "this build has no CUDA: install the CUDA Toolkit (nvcc), then ./dev build; or use --device cpu"});
  void* const module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: its kernels serve to the end
  if (module == nullptr)
    throw InputError({"--device cuda", "libraries of the CUDA Toolkit that this program was built with", ::dlerror(),
                      "add their folder to LD_LIBRARY_PATH, or use --device cpu"});
  using Maker = Backend* (*)(Precision);
  const auto maker = reinterpret_cast<Maker>(::dlsym(module, "elastiform_make_cuda_backend"));
  if (maker == nullptr) throw InputError({path.string(), "a module of this program", "another one", "build again"});
  return std::unique_ptr<Backend>(maker(precision));
}

}  // namespace

void offer_devices() {
  offer_device(Device::cuda, make_cuda);
  offer_device(Device::cuda_on_host, make_on_host);
}

}  // namespace elastiform
