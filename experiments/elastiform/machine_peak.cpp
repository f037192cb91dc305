#include "experiments/elastiform/machine_peak.hpp"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

namespace elastiform {

double measure_peak(Backend& backend) {
  constexpr std::int64_t N = 256, K = 512, kRepeats = 16;
  const auto workers = static_cast<std::size_t>(backend.slots());
  std::vector<std::vector<float>> x(workers, std::vector<float>(N * K, 0.5f)), w(workers, std::vector<float>(K * K, 0.5f)),
      y(workers, std::vector<float>(N * K));
  const auto run = [&] {
    const auto begin = std::chrono::steady_clock::now();
    backend.for_each(backend.slots(), [&](std::int64_t i) {
      const auto worker = static_cast<std::size_t>(i);
      for (std::int64_t repeat = 0; repeat < kRepeats; ++repeat)
        backend.matmul({.y = view_of(y[worker].data(), N, K, K),
                        .x = view_of(std::as_const(x[worker]).data(), N, K, K),
                        .w = view_of(std::as_const(w[worker]).data(), K, K, K),
                        .bias = {},
                        .add = {}});
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    return 2.0 * N * K * K * kRepeats * static_cast<double>(workers) / seconds.count();
  };
  double best = 0;
  for (int attempt = 0; attempt < 8; ++attempt) best = std::max(best, run());
  return best;
}

}  // namespace elastiform
