#include "kernels/device.hpp"

#include <array>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

constexpr std::array<std::string_view, 3> kNames{"cpu", "cuda", "cuda-on-host"};
std::array<BackendMaker, kNames.size()> g_makers{};  // written before main's command begins

}  // namespace

std::string_view name_of(Device device) { return kNames[static_cast<std::size_t>(device)]; }

Device parse_device(std::string_view text, const std::string& where) {
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == text) return static_cast<Device>(i);
  throw InputError({where, "one of cpu, cuda, cuda-on-host", '"' + std::string(text) + '"', ""});
}

std::string text(const Compute& compute) {
  const std::string precision(name_of(compute.precision));
  return compute.device == Device::cpu ? precision : precision + " on " + std::string(name_of(compute.device));
}

void offer_device(Device device, BackendMaker maker) { g_makers[static_cast<std::size_t>(device)] = maker; }

std::unique_ptr<Backend> make_backend(const Compute& compute, const ThreadPool& pool) {
  if (compute.device == Device::cpu) return std::make_unique<CpuBackend>(pool, compute.precision);
  const BackendMaker maker = g_makers[static_cast<std::size_t>(compute.device)];
  if (maker == nullptr)
    throw InputError({"--device " + std::string(name_of(compute.device)), "", "this program was built without it", "use --device cpu"});
  return maker(compute.precision);
}

BackendTraits traits_of(const Compute& compute, int slots) {
  BackendTraits traits = traits_of(compute.precision, slots);
  if (compute.device != Device::cpu) traits.slots = 1, traits.panel_rows = kAllRows;
  return traits;
}

}  // namespace elastiform
