#include "search/statistics.hpp"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "kernels/random.hpp"

namespace elastiform {
namespace {

constexpr std::size_t kResamples = 10'000;
constexpr std::size_t kTail = kResamples / 40;    // 2.5 % of the resamples lie outside each end of the 95 % interval
constexpr std::size_t kTail90 = kResamples / 20;  // and 5 % of the 90 % interval

PairedDifference unbounded(PairedDifference result) {
  result.high = result.high90 = std::numeric_limits<double>::infinity();
  result.low = result.low90 = -result.high;
  return result;
}

}  // namespace

PairedDifference paired_difference(std::span<const float> a, std::span<const float> b, std::uint64_t seed) {
  if (a.size() != b.size()) throw std::logic_error("paired_difference: the two lists are not of the same blocks");
  PairedDifference result{.blocks = a.size()};
  if (a.empty()) return result;
  std::vector<double> differences(a.size());
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += differences[i] = static_cast<double>(a[i]) - b[i];
  result.mean = sum / static_cast<double>(a.size());
  if (a.size() == 1) {  // one block says nothing about how blocks vary
    return unbounded(result);
  }
  if (!std::isfinite(result.mean)) return unbounded(result);  // a network that overflows on a block has no difference
  std::vector<double> means(kResamples);
  for (std::size_t r = 0; r < kResamples; ++r) {
    RandomStream random(seed, Purpose::bootstrap, r);
    double total = 0;
    for (std::size_t i = 0; i < differences.size(); ++i) total += differences[random.below(differences.size())];
    means[r] = total / static_cast<double>(differences.size());
  }
  std::ranges::sort(means);
  result.low = means[kTail - 1];
  result.high = means[kResamples - kTail];
  result.low90 = means[kTail90 - 1];
  result.high90 = means[kResamples - kTail90];
  const auto below = std::ranges::lower_bound(means, 0.0) - means.begin(), above = means.end() - std::ranges::upper_bound(means, 0.0);
  const auto rare = static_cast<double>(std::min(below, above)) + 1;  // never 0: more resamples could find one
  result.p = std::min(1.0, 2 * rare / static_cast<double>(kResamples + 1));
  return result;
}

PairedDifference difference_over_seeds(std::span<const double> differences) {
  const auto n = static_cast<double>(differences.size());
  PairedDifference result{.blocks = differences.size()};
  if (differences.empty()) return result;
  result.mean = std::accumulate(differences.begin(), differences.end(), 0.0) / n;
  double squares = 0;
  for (const double one : differences) squares += (one - result.mean) * (one - result.mean);
  if (differences.size() == 1 || !std::isfinite(squares)) return unbounded(result);
  const double error = std::sqrt(squares / (n - 1) / n);
  const boost::math::students_t law(n - 1);
  const double wide = boost::math::quantile(law, 0.975) * error, narrow = boost::math::quantile(law, 0.95) * error;
  result.low = result.mean - wide, result.high = result.mean + wide;
  result.low90 = result.mean - narrow, result.high90 = result.mean + narrow;
  // Equal in every seed: an error of 0 is no proof beyond these seeds, unless the arms are the same.
  if (error == 0) result.p = result.mean == 0 ? 1 : 0;
  else result.p = 2 * boost::math::cdf(boost::math::complement(law, std::abs(result.mean) / error));
  return result;
}

PairedDifference PairedDifference::scaled(double factor) const {
  PairedDifference result = *this;
  for (double* value : {&result.mean, &result.low, &result.high, &result.low90, &result.high90}) *value *= factor;
  return result;
}

std::string verdict(const PairedDifference& difference, double margin) { return verdicts(std::span(&difference, 1), margin).front(); }

std::vector<std::string> verdicts(std::span<const PairedDifference> table, double margin) {
  // Holm (1979): the smallest p must be below 5 %/m, the next below 5 %/(m-1), …; the first that fails stops the rest.
  std::vector<std::size_t> order(table.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return table[i].p; });
  std::vector<std::string> names(table.size());
  bool rejecting = true;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const PairedDifference& difference = table[order[rank]];
    rejecting = rejecting && difference.p <= 0.05 / static_cast<double>(table.size() - rank);
    std::string& name = names[order[rank]];
    if (rejecting && difference.high < 0) name = "better";
    else if (rejecting && difference.low > 0) name = "worse";
    else if (difference.blocks > 0 && difference.low90 >= -margin && difference.high90 <= margin) name = "equivalent";
    else name = "undecided";
  }
  return names;
}

}  // namespace elastiform
