#pragma once

#include <functional>
#include <optional>
#include <set>

#include "search/feasible_set.hpp"

namespace elastiform {

/// What a search has asked or been told, and how to find a member of the feasible set that is not among it.
class Unseen {
 public:
  explicit Unseen(const FeasibleSet& feasible) : feasible_(&feasible) {}
  void add(const Subnet& subnet) { seen_.insert(subnet); }
  bool has(const Subnet& subnet) const { return seen_.contains(subnet); }
  bool exhausted() const { return feasible_->count() <= seen_.size(); }

  /// A new member drawn under the law. When draws keep repeating, the first new one by rank after the last of them: at most as many steps
  /// as were seen, so a small set is exhausted and the search ends. Nullopt when nothing is left.
  std::optional<Subnet> draw(Law law, RandomStream& random) const;

 private:
  const FeasibleSet* feasible_;
  std::set<Subnet> seen_;
};

}  // namespace elastiform
