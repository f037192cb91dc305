#include <algorithm>
#include <stdexcept>

#include "search/stratum.hpp"

namespace elastiform {
namespace {

using boost::multiprecision::cpp_int;

/// Lists are short (embed widths × depths × head counts × FFN widths at most), so everything is a scan.
class ListedStratum final : public Stratum {
 public:
  ListedStratum(const CostModel& costs, std::span<const Limit> limits, int embed, int depth, std::vector<Subnet> candidates)
      : Stratum(embed, depth), candidates_(std::move(candidates)) {
    for (const Subnet& subnet : candidates_) {
      candidate_costs_.push_back(costs.additive(subnet));
      if (admits(limits, candidate_costs_.back())) members_.push_back(subnet);
    }
  }

  cpp_int completions(std::span<const BlockGenes> prefix) const override { return with(prefix).size(); }

  Subnet unrank(std::span<const BlockGenes> prefix, const cpp_int& index) const override {
    const auto fitting = with(prefix);
    if (index < 0 || index >= fitting.size()) throw std::logic_error("Stratum::unrank: index out of range");
    return *fitting[index.convert_to<std::size_t>()];
  }

  cpp_int rank(const Subnet& member) const override {
    return std::lower_bound(members_.begin(), members_.end(), member) - members_.begin();
  }

  bool contains(std::span<const BlockGenes> blocks) const override {
    return std::ranges::any_of(members_, [&](const Subnet& s) { return std::ranges::equal(s.blocks, blocks); });
  }

  void see_nearest(std::span<const Limit> limits, std::size_t which, Nearest& nearest) const override {
    std::vector<Limit> others(limits.begin(), limits.end());
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(which));
    for (const AdditiveCosts& costs : candidate_costs_)
      if (admits(others, costs)) nearest.see(limits[which], value_of(costs, limits[which].cost));
  }

 private:
  std::vector<const Subnet*> with(std::span<const BlockGenes> prefix) const {
    std::vector<const Subnet*> fitting;
    for (const Subnet& member : members_)
      if (prefix.size() <= member.blocks.size() && std::equal(prefix.begin(), prefix.end(), member.blocks.begin()))
        fitting.push_back(&member);
    return fitting;
  }

  std::vector<Subnet> candidates_;
  std::vector<AdditiveCosts> candidate_costs_;
  std::vector<Subnet> members_;
};

}  // namespace

void Nearest::see(const Limit& limit, std::int64_t cost) {
  if (cost < limit.low && (!below || cost > *below)) below = cost;
  if (cost > limit.high && (!above || cost < *above)) above = cost;
}

std::optional<std::int64_t> Nearest::closest(const Limit& limit) const {
  if (!below || !above) return below ? below : above;
  return limit.low - *below <= *above - limit.high ? below : above;
}

std::int64_t value_of(const AdditiveCosts& costs, Cost cost) {
  switch (cost) {
    case Cost::block_parameters: return costs.block_parameters;
    case Cost::macs: return costs.macs;
    case Cost::latency: return costs.latency_sum;
    default: return costs.parameters;
  }
}

bool admits(std::span<const Limit> limits, const AdditiveCosts& costs) {
  return std::ranges::all_of(limits, [&](const Limit& limit) {
    const std::int64_t value = value_of(costs, limit.cost);
    return value >= limit.low && value <= limit.high;
  });
}

std::unique_ptr<Stratum> listed_stratum(const CostModel& costs, std::span<const Limit> limits, int embed, int depth,
                                        std::vector<Subnet> candidates) {
  return std::make_unique<ListedStratum>(costs, limits, embed, depth, std::move(candidates));
}

}  // namespace elastiform
