#pragma once

#include <span>
#include <vector>

#include "search/budget.hpp"
#include "search/evaluator.hpp"

namespace elastiform {

/// What an evaluation costs where answers are compared: of a latency the measured median where there is one, in picoseconds.
std::int64_t cost_of(const Evaluation& evaluation, Cost cost);

/// The non-dominated evaluations in (cost_of, loss): both smaller is better; equal points keep the smaller id.
class ParetoFront {
 public:
  explicit ParetoFront(Cost cost = Cost::parameters) : cost_(cost) {}
  /// Returns whether it is on the front now.
  bool add(const Evaluation& evaluation);
  const std::vector<Evaluation>& members() const { return members_; }  // ascending cost
  Cost cost() const { return cost_; }

 private:
  Cost cost_;
  std::vector<Evaluation> members_;
};

}  // namespace elastiform
