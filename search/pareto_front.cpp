#include "search/pareto_front.hpp"

#include <algorithm>
#include <cmath>

namespace elastiform {

std::int64_t cost_of(const Evaluation& evaluation, Cost cost) {
  if (cost != Cost::latency || !std::isfinite(evaluation.latency_ms)) return value_of(evaluation.costs, cost);
  return static_cast<std::int64_t>(std::clamp(evaluation.latency_ms * 1e9, 0.0, 9e18));
}

bool ParetoFront::add(const Evaluation& evaluation) {
  // A loss that is no number cannot be compared, so it neither joins nor keeps others out.
  if (!std::isfinite(evaluation.score.loss)) return false;
  const std::int64_t cost = cost_of(evaluation, cost_);
  const double loss = evaluation.score.loss;
  const auto cost_in = [&](const Evaluation& member) { return cost_of(member, cost_); };
  // Members ascend in cost and descend in loss, so the last one that costs no more is the only one that can dominate.
  auto after = std::ranges::upper_bound(members_, cost, {}, cost_in);
  if (after != members_.begin()) {
    const Evaluation& rival = *(after - 1);
    const bool equal = cost_in(rival) == cost && rival.score.loss == loss;
    if (equal ? rival.id < evaluation.id : rival.score.loss <= loss) return false;
  }
  const auto first = std::ranges::lower_bound(members_, cost, {}, cost_in);
  auto last = first;
  while (last != members_.end() && last->score.loss >= loss) ++last;
  members_.insert(members_.erase(first, last), evaluation);
  return true;
}

}  // namespace elastiform
