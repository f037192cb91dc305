#include "experiments/elastiform/compare/energy_meter.hpp"

#include <dlfcn.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <utility>

namespace elastiform {
namespace {

constexpr double kMicro = 1e-6, kMilli = 1e-3;

/// -1 where there is none, or none that this user may read.
std::int64_t number_in(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::int64_t number = -1;
  return stream >> number ? number : -1;
}

// NVML belongs to the driver and is no package of ours, so three of its functions are looked up (nvml.h: all return 0 on success).
struct Nvml {
  using Init = int();
  using Handle = int(unsigned, void**);
  using Energy = int(void*, unsigned long long*);
  void* library = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  void* device = nullptr;
  Energy* energy = nullptr;

  Nvml() {
    if (library == nullptr) return;
    auto* const init = reinterpret_cast<Init*>(::dlsym(library, "nvmlInit_v2"));
    auto* const handle = reinterpret_cast<Handle*>(::dlsym(library, "nvmlDeviceGetHandleByIndex_v2"));
    if (init == nullptr || handle == nullptr || init() != 0 || handle(0, &device) != 0) return;
    energy = reinterpret_cast<Energy*>(::dlsym(library, "nvmlDeviceGetTotalEnergyConsumption"));
  }
  double joules() const {
    unsigned long long millijoules = 0;
    if (energy == nullptr || energy(device, &millijoules) != 0) return std::numeric_limits<double>::quiet_NaN();
    return static_cast<double>(millijoules) * kMilli;
  }
};

double gpu_joules() {
  static const Nvml nvml;
  return nvml.joules();
}

}  // namespace

EnergyMeter::EnergyMeter(Device device, std::string powercap) : powercap_(std::move(powercap)) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(powercap_, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    // "intel-rapl:0" is a package, "intel-rapl:0:1" a part of one that it already counts.
    if (name.find("-rapl:") == std::string::npos || name.find(':') != name.rfind(':')) continue;
    const std::int64_t now = number_in(entry->path() / "energy_uj"), range = number_in(entry->path() / "max_energy_range_uj");
    if (now >= 0 && range > 0) packages_[entry->path().string()] = {now, range};
  }
  if (device != Device::cuda) return;
  gpu_begin_ = gpu_joules();
  gpu_ = std::isfinite(gpu_begin_);
}

double EnergyMeter::joules() {
  for (auto& [folder, counter] : packages_) {
    const std::int64_t now = number_in(std::filesystem::path(folder) / "energy_uj");
    if (now < 0) continue;
    packages_joules_ += kMicro * static_cast<double>(now >= counter.last ? now - counter.last : now + counter.range - counter.last);
    counter.last = now;
  }
  if (packages_.empty() && !gpu_) return std::numeric_limits<double>::quiet_NaN();
  return packages_joules_ + (gpu_ ? gpu_joules() - gpu_begin_ : 0);
}

}  // namespace elastiform
