#include "supernet/plan_cache.hpp"

namespace elastiform {

const ActivationPlan& PlanCache::of(const Subnet& subnet, const PassShape& pass, std::int64_t limit) {
  auto found = entries_.find(subnet);
  if (found == entries_.end()) {
    if (entries_.size() >= kMostSubnets) entries_.clear();
    found = entries_.emplace(subnet, std::vector<Entry>{}).first;
  }
  for (const Entry& entry : found->second)
    if (entry.pass == pass && entry.limit == limit) return entry.plan;
  ++solved_;
  return found->second.emplace_back(Entry{pass, limit, network_.plan_training(traits_, subnet, pass, limit, choices_)}).plan;
}

}  // namespace elastiform
