#pragma once

#include <optional>
#include <span>
#include <vector>

#include "kernels/function_ref.hpp"
#include "search/algorithms/algorithm.hpp"
#include "search/algorithms/member.hpp"
#include "search/algorithms/unseen.hpp"

namespace elastiform {

/// What algorithms that learn remember, and how they begin: with founders, which are homogeneous subnets, and draws.
class Population {
 public:
  Population(const FeasibleSet& feasible, const AlgorithmOptions& options);

  /// n new ones: of the first `population` at most what is missing of them, later what `next` makes, a draw where it has none.
  std::vector<Subnet> ask(std::size_t n, RandomStream& random, FunctionRef<std::optional<Subnet>(const Unseen&)> next) const;
  void tell(std::span<const Evaluation> round);

  const std::vector<Member>& members() const { return members_; }  // oldest first
  std::size_t size() const { return options_.population; }
  std::size_t tournament() const { return options_.tournament; }

 private:
  AlgorithmOptions options_;
  std::vector<Subnet> founders_;
  Unseen told_;
  std::vector<Member> members_;
};

/// The lowest loss of `tournament` random ones; the first of equals.
const Member& best_of_some(std::span<const Member> members, std::size_t tournament, RandomStream& random);

}  // namespace elastiform
