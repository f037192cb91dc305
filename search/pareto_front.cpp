#include "search/pareto_front.hpp"

#include <algorithm>

namespace elastiform {

bool ParetoFront::add(const Evaluation& evaluation) {
  // A loss that is no number cannot be compared, so it neither joins nor keeps others out.
  if (!std::isfinite(evaluation.score.loss)) return false;
  const std::int64_t cost = value_of(evaluation.costs, cost_);
  const double loss = evaluation.score.loss;
  const auto cost_of = [&](const Evaluation& member) { return value_of(member.costs, cost_); };
  // Members ascend in cost and descend in loss, so the last one that costs no more is the only one that can dominate.
  auto after = std::ranges::upper_bound(members_, cost, {}, cost_of);
  if (after != members_.begin()) {
    const Evaluation& rival = *(after - 1);
    const bool equal = cost_of(rival) == cost && rival.score.loss == loss;
    if (equal ? rival.id < evaluation.id : rival.score.loss <= loss) return false;
  }
  const auto first = std::ranges::lower_bound(members_, cost, {}, cost_of);
  auto last = first;
  while (last != members_.end() && last->score.loss >= loss) ++last;
  members_.insert(members_.erase(first, last), evaluation);
  return true;
}

}  // namespace elastiform
