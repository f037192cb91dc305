#pragma once

#include <array>
#include <boost/multiprecision/cpp_int.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "search/budget.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

// Limits of strata are on AdditiveCosts: of a latency on the sum of its parts.

/// The costs nearest to a limit that are outside it: the greatest below its low end and the least above its high end.
struct Nearest {
  std::optional<std::int64_t> below, above;
  void see(const Limit& limit, std::int64_t cost);
  /// The closer of the two, the lower one when they are equally far.
  std::optional<std::int64_t> closest(const Limit& limit) const;
};

/// The members of a feasible set at one embed width and depth, ordered by their blocks from left to right.
class Stratum {
 public:
  Stratum(int embed, int depth) : embed_(embed), depth_(depth) {}
  virtual ~Stratum() = default;
  int embed() const { return embed_; }
  int depth() const { return depth_; }

  /// Members whose first blocks are `prefix`; 0 when a block is no choice of the space.
  virtual boost::multiprecision::cpp_int completions(std::span<const BlockGenes> prefix) const = 0;
  /// The index-th of them; index < completions(prefix).
  virtual Subnet unrank(std::span<const BlockGenes> prefix, const boost::multiprecision::cpp_int& index) const = 0;
  virtual boost::multiprecision::cpp_int rank(const Subnet& member) const = 0;
  virtual bool contains(std::span<const BlockGenes> blocks) const = 0;
  /// Adds to `nearest` what subnets of this embed width and depth cost that satisfy every limit but limits[which].
  virtual void see_nearest(std::span<const Limit> limits, std::size_t which, Nearest& nearest) const = 0;

 private:
  int embed_, depth_;
};

/// Head counts and FFN widths that each block may take at one embed width, ascending.
struct Choices {
  std::vector<std::vector<int>> heads, ffn;
};
Choices choices_of(const SearchSpace& space, int embed, int depth);

/// Every subnet of these choices inside the limits, counted by sums (feasible_set.hpp). Throws InputError when a table of counts
/// would exceed max_bytes: spaces of about a thousand blocks.
std::unique_ptr<Stratum> counted_stratum(const CostModel& costs, std::span<const Limit> limits, int embed, const Choices& choices,
                                         std::int64_t max_bytes);

/// `candidates`, in order and of this embed width and depth, as far as they are inside the limits.
std::unique_ptr<Stratum> listed_stratum(const CostModel& costs, std::span<const Limit> limits, int embed, int depth,
                                        std::vector<Subnet> candidates);

std::int64_t value_of(const AdditiveCosts& costs, Cost cost);
bool admits(std::span<const Limit> limits, const AdditiveCosts& costs);

}  // namespace elastiform
