#include "experiments/elastiform/devices.hpp"

#include <dlfcn.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "kernels/collectives/communicator.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/errors.hpp"
#include "kernels_stamp.hpp"

namespace elastiform {
namespace {

constexpr const char *kCuda = "elastiform_cuda.so", *kNccl = "elastiform_nccl.so";
int g_process = 0, g_processes = 1;  // on this machine

std::filesystem::path beside_program(const char* module) {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / module;
}

/// Function `name` of an opened module; throws InputError for one that lacks it.
template <class Function>
Function* function_of(void* module, const std::filesystem::path& path, const char* name) {
  auto* const function = reinterpret_cast<Function*>(::dlsym(module, name));
  if (function == nullptr) throw InputError({path.string(), "a module of this program", "another one", "run ./dev build again"});
  return function;
}

/// CUDA shows each process one GPU. A list of one is a launcher's, which has dealt them.
void take_own_gpu() {
  static bool taken = false;
  if (g_processes == 1 || std::exchange(taken, true)) return;
  const char* const said = std::getenv("CUDA_VISIBLE_DEVICES");
  std::vector<std::string> shown;
  std::stringstream list(said != nullptr ? said : "");
  for (std::string one; std::getline(list, one, ',');) shown.push_back(one);
  if (shown.size() == 1) return;
  const auto at = static_cast<std::size_t>(g_process);
  if (!shown.empty() && at >= shown.size())
    throw InputError({"CUDA_VISIBLE_DEVICES", fmt::format("a GPU for each of the {} processes on this machine", g_processes), said,
                      "name more GPUs, or start fewer processes"});
  ::setenv("CUDA_VISIBLE_DEVICES", shown.empty() ? std::to_string(g_process).c_str() : shown[at].c_str(), 1);
}

using NcclLinkMaker = Link*(Communicator&, void*);

/// nullptr without the module, without the library that it needs, and for a module of other kernels/.
NcclLinkMaker* nccl_link_maker() {
  const std::filesystem::path path = beside_program(kNccl);
  std::error_code error;
  void* const module = std::filesystem::exists(path, error) ? ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;  // never closed
  if (module == nullptr) return nullptr;
  auto* const kernels = reinterpret_cast<const char* (*)()>(::dlsym(module, "elastiform_nccl_kernels"));
  if (kernels == nullptr || std::string(kernels()) != ELASTIFORM_KERNELS) return nullptr;
  return reinterpret_cast<NcclLinkMaker*>(::dlsym(module, "elastiform_make_nccl_link"));
}

/// All ranks have NCCL, or none uses it.
std::unique_ptr<Link> make_nccl_link(Communicator& ranks, void* stream) {
  NcclLinkMaker* const maker = nccl_link_maker();
  if (!any(ranks, maker == nullptr)) return std::unique_ptr<Link>(maker(ranks, stream));
  if (ranks.leads())
    fmt::print(
        stderr,
        "note: a process has no {} of this build beside the program, or not the library that it needs: gradients go through the host\n",
        kNccl);
  return nullptr;
}

std::unique_ptr<Backend> make_on_host(Precision precision) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    throw InputError({"--device cuda-on-host", "a processor with AVX2 and FMA", "none", "use --device cpu"});
#endif
  return std::make_unique<cuda_on_host::CudaBackend>(precision);
}

/// Opened once and never closed: its kernels serve to the end.
void* opened(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    throw InputError({"--device cuda", path.filename().string() + " beside the program", "none",
                      "this build has no CUDA: install the CUDA Toolkit (nvcc), then ./dev clean and ./dev build; or use --device cpu"});
  take_own_gpu();
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

std::filesystem::path cuda_module() { return beside_program(kCuda); }

std::unique_ptr<Backend> make_cuda(Precision precision, Products products, const std::filesystem::path& path) {
  auto* const make = function_of<Backend*(Precision, bool, LinkMaker, int)>(opened(path), path, "elastiform_make_cuda_backend");
  return std::unique_ptr<Backend>(make(precision, products == Products::library, make_nccl_link, g_process));
}

std::optional<std::int64_t> free_bytes_of(Device device) {
  if (device == Device::cpu) return std::nullopt;
  if (device == Device::cuda_on_host) return cuda_on_host::device_memory().free;
  const std::filesystem::path path = cuda_module();
  return function_of<std::int64_t()>(opened(path), path, "elastiform_cuda_free_bytes")();
}

std::unique_ptr<MemorySpace> make_pinned_space(Device device) {
  if (device == Device::cpu)
    throw InputError({"--offload pinned", "--device cuda", "--device cpu, whose activations are in the host's memory already",
                      "--offload FOLDER lets them wait in a file"});
  if (device == Device::cuda_on_host) return std::make_unique<cuda_on_host::PinnedSpace>();
  const std::filesystem::path path = cuda_module();
  return std::unique_ptr<MemorySpace>(function_of<MemorySpace*()>(opened(path), path, "elastiform_make_pinned_space")());
}

void offer_devices(int process, int processes) {
  g_process = process, g_processes = processes;
  offer_device(Device::cuda, [](Precision precision) { return make_cuda(precision, Products::library); });
  offer_device(Device::cuda_on_host, make_on_host);
}

}  // namespace elastiform
