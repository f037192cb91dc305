#include "experiments/elastiform/devices.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/device.hpp"
#include "kernels/errors.hpp"
#include "kernels_stamp.hpp"

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

/// Function `name` of an opened module; throws InputError for one that lacks it.
template <class Function>
Function* function_of(void* module, const std::filesystem::path& path, const char* name) {
  auto* const function = reinterpret_cast<Function*>(::dlsym(module, name));
  if (function == nullptr) throw InputError({path.string(), "a module of this program", "another one", "run ./dev build again"});
  return function;
}

}  // namespace

std::filesystem::path cuda_module() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / kModule;
}

namespace {

/// Opened once and never closed: its kernels serve to the end.
void* opened(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    throw InputError({"--device cuda", path.filename().string() + " beside the program", "none",
                      "this build has no CUDA: install the CUDA Toolkit (nvcc), then ./dev clean and ./dev build; or use --device cpu"});
  void* const module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr)
    throw InputError({"--device cuda", "libraries of the CUDA Toolkit that this program was built with", ::dlerror(),
                      "add their folder to LD_LIBRARY_PATH, or use --device cpu"});
  const std::string kernels = function_of<const char*()>(module, path, "elastiform_cuda_kernels")();
  if (kernels != ELASTIFORM_KERNELS)
    throw InputError(
        {path.string(), "a module built from this program's kernels (" ELASTIFORM_KERNELS ")", kernels, "run ./dev build again"});
  return module;
}

}  // namespace

std::unique_ptr<Backend> make_cuda(Precision precision, Products products, const std::filesystem::path& path) {
  auto* const make = function_of<Backend*(Precision, bool)>(opened(path), path, "elastiform_make_cuda_backend");
  return std::unique_ptr<Backend>(make(precision, products == Products::library));
}

std::optional<std::int64_t> free_bytes_of(Device device) {
  if (device == Device::cpu) return std::nullopt;
  if (device == Device::cuda_on_host) return cuda_on_host::device_memory().free;
  const std::filesystem::path path = cuda_module();
  return function_of<std::int64_t()>(opened(path), path, "elastiform_cuda_free_bytes")();
}

void offer_devices() {
  offer_device(Device::cuda, [](Precision precision) { return make_cuda(precision, Products::library); });
  offer_device(Device::cuda_on_host, make_on_host);
}

}  // namespace elastiform
