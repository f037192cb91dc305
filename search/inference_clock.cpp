#include "search/inference_clock.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "search/evaluator.hpp"

namespace elastiform {

Milliseconds quantiles_of(std::vector<double> samples) {
  if (samples.empty()) throw std::logic_error("quantiles_of: no samples");
  std::ranges::sort(samples);
  const std::size_t n = samples.size();
  const auto rank = [&](double share) {
    return samples[std::min(n - 1, static_cast<std::size_t>(std::max(0.0, std::ceil(share * static_cast<double>(n)) - 1)))];
  };
  return {.median = (samples[(n - 1) / 2] + samples[n / 2]) / 2, .low = rank(0.1), .high = rank(0.9)};
}

std::vector<Milliseconds> time_in_turn(InferenceClock& clock, std::span<const Subnet> subnets, int rounds, int passes,
                                       const std::function<bool()>& stop) {
  std::vector<std::vector<double>> samples(subnets.size());
  for (int round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < subnets.size(); ++i) {
      if (stop && stop()) throw Interrupted();
      for (const PassTimes& pass : clock.time(subnets[i], passes, Timed::whole)) samples[i].push_back(pass.whole);
    }
  std::vector<Milliseconds> times;
  for (auto& of_subnet : samples) times.push_back(quantiles_of(std::move(of_subnet)));
  return times;
}

}  // namespace elastiform
