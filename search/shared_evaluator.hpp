#pragma once

#include "search/prefix_evaluator.hpp"

namespace elastiform {

/// The evaluator of a search that several ranks share. Rank 0 alone knows the algorithm and the store: it evaluates, the others follow.
class SharedEvaluator final : public Evaluator {
 public:
  /// `own` is this rank's part of it, with the same weights and data on every rank.
  SharedEvaluator(PrefixEvaluator& own, Communicator& ranks);
  /// Rank 0.
  std::vector<Score> evaluate(std::span<const Subnet> subnets) override;
  /// The other ranks: take part in every evaluate() of rank 0 until it calls finish().
  void follow();
  void finish();

 private:
  PrefixEvaluator& own_;
  Communicator& ranks_;
};

}  // namespace elastiform
