#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace elastiform {

constexpr double kNormal95 = 1.96;  // standard errors on each side of a 95 % interval

/// Mean of a - b over paired blocks with its 95 % block-bootstrap interval (10,000 resamples, percentile; Efron 1979).
struct PairedDifference {
  double mean = 0, low = 0, high = 0;
  double low90 = 0, high90 = 0;  // the 90 % interval: what equivalence is judged by
  double p = 1;                  // two-sided, of no difference
  std::size_t blocks = 0;
  PairedDifference scaled(double factor) const;  // in another unit; p and blocks have none
};
PairedDifference paired_difference(std::span<const float> a, std::span<const float> b, std::uint64_t seed);

/// The same of one difference a seed, by Student's t (Boost.Math); `blocks` counts seeds. Of one seed, or where one is not finite, the
/// interval is everything.
PairedDifference difference_over_seeds(std::span<const double> differences);

/// For each difference of a table "better" or "worse" (it is not 0 at 5 %, Holm-corrected over the table), "equivalent" (its 90 %
/// interval lies inside ±margin) or "undecided".
std::vector<std::string> verdicts(std::span<const PairedDifference> table, double margin);
std::string verdict(const PairedDifference& difference, double margin);  // of a table of one

}  // namespace elastiform
