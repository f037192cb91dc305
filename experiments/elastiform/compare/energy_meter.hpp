#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "kernels/device.hpp"

namespace elastiform {

/// Energy of the whole machine's packages (Linux powercap, Intel and AMD RAPL) and, on the device cuda, of GPU 0 (NVML), since it was made.
class EnergyMeter {
 public:
  /// powercap: the folder that holds intel-rapl:0 and its like; tests have their own.
  explicit EnergyMeter(Device device, std::string powercap = "/sys/class/powercap");
  /// Joules; NaN where this machine does not tell. RAPL's counters turn over after minutes to hours: call it at least that often.
  double joules();

 private:
  struct Counter {
    std::int64_t last = 0, range = 0;  // microjoules; 0 follows range
  };
  std::string powercap_;
  std::map<std::string, Counter> packages_;
  double packages_joules_ = 0;
  bool gpu_ = false;
  double gpu_begin_ = 0;
};

}  // namespace elastiform
