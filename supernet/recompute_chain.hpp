#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace elastiform {

/// One way to run a link of a chain, in bytes and in units of work.
struct LinkOption {
  std::int64_t stored = 0;  // kept from the end of its forward to its backward
  std::int64_t work = 0;    // the most that it takes at once, in forward or in backward; at least `stored`
  std::int64_t cost = 0;    // of what backward repeats
};

/// A chain of links that run forward, then backward in reverse. While a link runs, what the earlier ones stored stays, so the peak is the
/// maximum over links of stored(earlier) + work(this), and of stored(all) + what follows the forward pass.
///
/// Solved once for all limits (methods.md §11; the chain of arXiv 1911.13214 with options instead of segments): from the last link to the
/// first, the pairs of a suffix's peak and cost of which none is beaten in both. Exact up to kMostPoints pairs a link; beyond, pairs
/// of nearly equal peaks are represented by the cheapest.
class RecomputeChain {
 public:
  static constexpr std::size_t kMostPoints = 1024;

  RecomputeChain(std::vector<std::vector<LinkOption>> links, std::int64_t end_work);

  struct Plan {
    std::vector<int> options;  // of each link
    std::int64_t peak = 0, cost = 0;
    bool operator==(const Plan&) const = default;
  };
  /// The cheapest plan whose peak is at most `limit`; of several the one of smallest peak, then the first in order of options.
  std::optional<Plan> solve(std::int64_t limit) const;
  /// No plan has a smaller peak.
  std::int64_t least_peak() const { return suffixes_.front().front().peak; }
  /// The smallest peak of plans that cost at most that; keeping everything costs nothing.
  std::int64_t least_peak(std::int64_t cost) const;

 private:
  struct Point {
    std::int64_t peak = 0, cost = 0;
  };
  using Frontier = std::vector<Point>;  // peaks ascend, costs descend
  static void reduce(Frontier& points);
  static const Point* cheapest(const Frontier& points, std::int64_t limit);  // null: none fits

  std::vector<std::vector<LinkOption>> links_;
  std::vector<Frontier> suffixes_;  // [i]: of the links from i on; the last: of none
};

}  // namespace elastiform
