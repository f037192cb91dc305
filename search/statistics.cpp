#include "search/statistics.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <vector>

#include "kernels/random.hpp"

namespace elastiform {
namespace {

constexpr std::size_t kResamples = 10'000;
constexpr std::size_t kTail = kResamples / 40;  // 2.5 % of the resamples lie outside each end

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
    result.low = -std::numeric_limits<double>::infinity();
    result.high = std::numeric_limits<double>::infinity();
    return result;
  }
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
  return result;
}

std::string verdict(const PairedDifference& difference, double margin) {
  if (difference.blocks == 0) return "undecided";
  if (difference.high < 0) return "better";
  if (difference.low > 0) return "worse";
  return difference.low >= -margin && difference.high <= margin ? "equivalent" : "undecided";
}

}  // namespace elastiform
