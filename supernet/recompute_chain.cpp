#include "supernet/recompute_chain.hpp"

#include <algorithm>
#include <stdexcept>

namespace elastiform {

void RecomputeChain::reduce(Frontier& points) {
  std::sort(points.begin(), points.end(),
            [](const Point& a, const Point& b) { return a.peak != b.peak ? a.peak < b.peak : a.cost < b.cost; });
  std::size_t kept = 0;
  for (const Point& point : points)
    if (kept == 0 || point.cost < points[kept - 1].cost) points[kept++] = point;
  points.resize(kept);
  if (kept <= kMostPoints) return;
  // The smallest peak stays, so that what can fit is still found to fit; of each interval of peaks its cheapest point.
  const std::int64_t first = points.front().peak, width = (points.back().peak - first) / static_cast<std::int64_t>(kMostPoints - 2) + 1;
  Frontier thinned{points.front()};
  for (std::size_t i = 1; i < points.size(); ++i)
    if (i + 1 == points.size() || (points[i].peak - first) / width != (points[i + 1].peak - first) / width) thinned.push_back(points[i]);
  points = std::move(thinned);
}

const RecomputeChain::Point* RecomputeChain::cheapest(const Frontier& points, std::int64_t limit) {
  const auto above =
      std::upper_bound(points.begin(), points.end(), limit, [](std::int64_t value, const Point& point) { return value < point.peak; });
  return above == points.begin() ? nullptr : &*(above - 1);
}

RecomputeChain::RecomputeChain(std::vector<std::vector<LinkOption>> links, std::int64_t end_work)
    : links_(std::move(links)), suffixes_(links_.size() + 1) {
  suffixes_.back() = {{end_work, 0}};
  for (std::size_t i = links_.size(); i-- > 0;) {
    if (links_[i].empty()) throw std::logic_error("RecomputeChain: a link without options");
    for (const LinkOption& option : links_[i])
      for (const Point& rest : suffixes_[i + 1])
        suffixes_[i].push_back({std::max(option.work, option.stored + rest.peak), option.cost + rest.cost});
    reduce(suffixes_[i]);
  }
}

std::int64_t RecomputeChain::least_peak(std::int64_t cost) const {
  const Frontier& points = suffixes_.front();
  return std::find_if(points.begin(), points.end() - 1, [&](const Point& point) { return point.cost <= cost; })->peak;
}

std::optional<RecomputeChain::Plan> RecomputeChain::solve(std::int64_t limit) const {
  const Point* goal = cheapest(suffixes_.front(), limit);
  if (!goal) return std::nullopt;
  Plan plan{.options = {}, .peak = goal->peak, .cost = goal->cost};
  // Downhill from the goal: the first option of each link after which the remaining links can still reach it.
  Point left = *goal;
  for (std::size_t i = 0; i < links_.size(); ++i) {
    const std::vector<LinkOption>& options = links_[i];
    for (std::size_t o = 0; o < options.size(); ++o) {
      if (options[o].work > left.peak) continue;
      const Point* rest = cheapest(suffixes_[i + 1], left.peak - options[o].stored);
      if (!rest || options[o].cost + rest->cost > left.cost) continue;
      plan.options.push_back(static_cast<int>(o));
      left = {left.peak - options[o].stored, left.cost - options[o].cost};
      break;
    }
  }
  return plan;
}

}  // namespace elastiform
