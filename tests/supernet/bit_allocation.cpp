#include "supernet/bit_allocation.hpp"

#include <algorithm>
#include <limits>

#include "kernels/random.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

struct Cost {
  double variance = 0;
  std::int64_t bytes = 0;
};

Cost cost_of(const std::vector<CompressedTensor>& tensors, std::span<const int> bits) {
  Cost cost;
  for (std::size_t i = 0; i < tensors.size(); ++i) cost.variance += tensors[i].variance(bits[i]), cost.bytes += tensors[i].bytes(bits[i]);
  return cost;
}

/// The least variance of all allocations inside `limit` bytes; infinite when there is none.
double brute_force(const std::vector<CompressedTensor>& tensors, std::int64_t limit) {
  double best = std::numeric_limits<double>::infinity();
  std::vector<int> bits(tensors.size(), 8);
  for (;;) {
    const Cost cost = cost_of(tensors, bits);
    if (cost.bytes <= limit) best = std::min(best, cost.variance);
    std::size_t i = 0;
    for (; i < bits.size() && bits[i] / 2 < tensors[i].least_bits; ++i) bits[i] = 8;
    if (i == bits.size()) return best;
    bits[i] /= 2;
  }
}

}  // namespace

TEST_CASE("greedy bits fit where anything does, and are brute force's or nearly so", "[supernet][memory]") {
  RandomStream random(5, Purpose::test);
  int compared = 0, equal = 0, infeasible = 0;
  for (int i = 0; i < 200; ++i) {
    std::vector<CompressedTensor> tensors(1 + random.below(6));
    for (CompressedTensor& tensor : tensors)
      tensor = {static_cast<double>(1 + random.below(1000)), static_cast<std::int64_t>(1 + random.below(20)),
                static_cast<std::int64_t>(1 + random.below(600)), 1 << (1 + random.below(3))};
    const std::vector<int> most(tensors.size(), 8);
    std::int64_t largest_step = 0;
    for (const CompressedTensor& tensor : tensors) largest_step = std::max(largest_step, tensor.bytes(8) - tensor.bytes(4));
    for (const double share : {0.2, 0.4, 0.6, 0.8, 1.0}) {
      const auto limit = static_cast<std::int64_t>(share * static_cast<double>(cost_of(tensors, most).bytes));
      const std::vector<int> bits =
          allocate_bits(tensors, [&](std::span<const int> tried) { return cost_of(tensors, tried).bytes <= limit; });
      CAPTURE(i, share);
      for (std::size_t t = 0; t < bits.size(); ++t) REQUIRE(bits[t] >= tensors[t].least_bits);
      const double best = brute_force(tensors, limit);
      const Cost got = cost_of(tensors, bits);
      REQUIRE((got.bytes <= limit) == (best < std::numeric_limits<double>::infinity()));
      if (got.bytes > limit) {
        // A row so short that fewer bits take no fewer bytes keeps them.
        for (std::size_t t = 0; t < bits.size(); ++t) CHECK(tensors[t].bytes(bits[t]) == tensors[t].bytes(tensors[t].least_bits));
        ++infeasible;
        continue;
      }
      // The price of a byte rises from 8 bits to 4 to 2, so greedy is exact but for the last tensor that it lowers.
      CHECK(got.variance >= best * (1 - 1e-12));
      CHECK(got.variance <= brute_force(tensors, limit - largest_step) * (1 + 1e-12));
      ++compared;
      equal += got.variance <= best * (1 + 1e-12) ? 1 : 0;
    }
  }
  CHECK(infeasible > 50);
  CHECK(compared > 300);
  CHECK(equal > compared / 2);
}

}  // namespace elastiform
