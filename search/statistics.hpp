#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace elastiform {

/// Mean of a - b over paired blocks with its 95 % block-bootstrap interval (10,000 resamples, percentile; Efron 1979).
struct PairedDifference {
  double mean = 0, low = 0, high = 0;
  std::size_t blocks = 0;
  double half_width() const { return (high - low) / 2; }
};
PairedDifference paired_difference(std::span<const float> a, std::span<const float> b, std::uint64_t seed);

/// "better", "worse" (the interval excludes 0), "equivalent" (it lies inside ±margin) or "undecided".
std::string verdict(const PairedDifference& difference, double margin);

}  // namespace elastiform
