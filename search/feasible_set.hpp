#pragma once

#include <boost/multiprecision/cpp_int.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/random.hpp"
#include "search/budget.hpp"
#include "search/deployable.hpp"
#include "search/law.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

using BigInt = boost::multiprecision::cpp_int;

/// Subnets of a space without limits: a sum of products of list sizes, for spaces of any size.
BigInt space_size(const SearchSpace& space);

/// Longest list of homogeneous subnets that is made: some 30 MiB, and far above what can be evaluated.
constexpr std::int64_t kMostHomogeneous = 100'000;

/// Exactly the subnets of a space that a budget and a deployment target admit (depths keep the first blocks). At fixed embed and depth every
/// additive cost is linear in (Σ heads, Σ ffn), so the set is a table over these sums and any number of limits is exact together; counts are
/// exact integers. A target that looks at each block by itself only shortens the lists of choices. Sets of targets whose blocks are all alike
/// are enumerated, and refused (InputError) where the space has more than kMostHomogeneous candidates. Order of rank: embed, depth, then blocks
/// from left to right, as Subnet's.
class FeasibleSet {
 public:
  FeasibleSet(const CostModel& costs, Budget budget, Deployable target = Deployable::any);
  ~FeasibleSet();
  FeasibleSet(FeasibleSet&&) noexcept;

  const BigInt& count() const;
  bool empty() const { return count() == 0; }
  bool contains(const Subnet& subnet) const;
  Subnet unrank(const BigInt& index) const;  // 0 ≤ index < count()
  BigInt rank(const Subnet& subnet) const;   // of a member
  /// Exact under its law; no loop without a bound. Throws std::logic_error when empty: callers refuse an empty set first.
  Subnet draw(Law law, RandomStream& random) const;
  /// The same restricted to a fixed embed width and first blocks, for mutation and crossover: completes `prefix` (embed and some first
  /// blocks, maybe none) to a feasible subnet of depth `depth`, uniform over the completions; nullopt when there is none.
  std::optional<Subnet> complete(int embed, int depth, const std::vector<BlockGenes>& prefix, RandomStream& random) const;

  /// Every homogeneous member (all blocks equal in heads and, at its embed width, ffn), in order; with `most`, at most so many of them,
  /// evenly spaced. InputError without `most` when the space has more than kMostHomogeneous homogeneous subnets.
  std::vector<Subnet> homogeneous() const;
  std::vector<Subnet> homogeneous(std::size_t most) const;

  /// For an empty set: one line that proves it and names, for each limit, the nearest cost that some subnet reaches while the other
  /// limits hold (or that none does). For the InputError of commands.
  std::string why_empty() const;

  const CostModel& costs() const;
  const Budget& budget() const;
  Deployable target() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace elastiform
