#include "experiments/bench/support/machine.hpp"

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/peak.hpp"
#include "kernels/parallel.hpp"

namespace elastiform {

double measured_peak(Precision precision, int threads) {
  const ThreadPool pool(threads);
  std::vector<double> each(static_cast<std::size_t>(threads));
  const auto measure = precision == Precision::bf16 ? cpu::measure_bf16_peak : cpu::measure_fma_peak;
  pool.for_each(threads, [&](std::int64_t i) { each[static_cast<std::size_t>(i)] = measure(); });
  return std::accumulate(each.begin(), each.end(), 0.0);
}

double measured_bandwidth(int threads) {
  constexpr std::int64_t kElements = 16 << 20;  // 64 MiB an array
  std::vector<float> a(kElements, 1), b(kElements, 2), c(kElements, 0);
  const ThreadPool pool(threads);
  const double best = best_seconds([&] {
    pool.for_each(threads, [&](std::int64_t part) {
      const std::int64_t end = kElements * (part + 1) / threads;
      for (std::int64_t i = kElements * part / threads; i < end; ++i) {
        const auto at = static_cast<std::size_t>(i);
        c[at] = a[at] + b[at];
      }
    });
  });
  return 3.0 * sizeof(float) * kElements / best;
}

double peak_resident_mib() {
  // VmHWM instead of getrusage: the latter begins with what the parent held before exec.
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  return 0;
}

void reset_peak_resident() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5\n";  // proc(5): resets VmHWM to what is resident now
}

double seconds_of(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double best_seconds(const std::function<void()>& body) {
  body();
  double best = 1e9, total = 0;
  for (int i = 0; i < 200 && (i < 5 || total < 0.3); ++i) {
    const double seconds = seconds_of(body);
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

}  // namespace elastiform
