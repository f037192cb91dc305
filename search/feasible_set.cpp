#include "search/feasible_set.hpp"

#include <algorithm>
#include <stdexcept>

#include "search/deployable_sets.hpp"
#include "search/stratum.hpp"

namespace elastiform {
namespace {

/// What all tables of counts of one set may take together.
constexpr std::int64_t kMaxTableBytes = std::int64_t{1} << 30;

/// Uniform over 0 … n-1: the top of n · (128 bits more than n has). Rejection would be exact but has no bound; the bias of this is below
/// 2^-128 for every value.
BigInt draw_below(const BigInt& n, RandomStream& random) {
  if (n == 1) return 0;
  const std::size_t words = msb(n) / 64 + 3;
  BigInt bits = 0;
  for (std::size_t i = 0; i < words; ++i) bits = (bits << 64) | random.next_u64();
  return (bits * n) >> (64 * words);
}

/// At most `most` of the indices 0 … n-1, both ends among them.
std::vector<std::int64_t> evenly_spaced(std::int64_t n, std::int64_t most) {
  std::vector<std::int64_t> indices;
  const std::int64_t count = std::min(n, most);
  // n · most of a long list exceeds 64 bits.
  for (std::int64_t i = 0; i < count; ++i)
    indices.push_back(count == 1 ? 0 : static_cast<std::int64_t>(BigInt(BigInt(i) * (n - 1) / (count - 1))));
  return indices;
}

/// The budget's, but of a latency the sums of parts that its limit comes to: strata count what is additive.
std::vector<Limit> counted_limits(const CostModel& costs, const Budget& budget) {
  std::vector<Limit> limits = budget.limits();
  for (Limit& limit : limits) {
    if (limit.cost != Cost::latency) continue;
    const LatencyModel::Sums sums = costs.latency().value().sums_within(limit.low, limit.high);
    limit.low = sums.least, limit.high = sums.greatest;
  }
  return limits;
}

}  // namespace

BigInt space_size(const SearchSpace& space) {
  BigInt size = 0;
  for (const int embed : space.embed()) {
    BigInt product = 1;
    for (int depth = 1; depth <= space.max_depth(); ++depth) {
      const SearchSpace::Block& block = space.blocks()[static_cast<std::size_t>(depth - 1)];
      product *= block.heads.size() * block.ffn.at(embed).size();
      if (std::ranges::binary_search(space.depth(), depth)) size += product;
    }
  }
  return size;
}

struct FeasibleSet::Impl {
  struct Part {
    std::unique_ptr<Stratum> stratum;
    BigInt first, count;  // ranks first … first+count-1
  };

  Impl(const CostModel& model, Budget limits, Deployable deployable)
      : costs(model), budget(std::move(limits)), counted(counted_limits(costs, budget)), target(deployable) {
    const SearchSpace& space = costs.space();
    const HomogeneousList list(space);
    if (!looks_at_blocks(target)) list.refuse_long("--deployable " + std::string(name_of(target)));
    const auto strata = static_cast<std::int64_t>(space.embed().size() * space.depth().size());
    for (const int embed : space.embed())
      for (const int depth : space.depth()) {
        Part part;
        if (!looks_at_blocks(target))
          part.stratum = listed_stratum(costs, counted, embed, depth, deployable_subnets(space, list, embed, depth, target));
        else if (const auto choices = deployable_choices(space, embed, depth, target))
          part.stratum = counted_stratum(costs, counted, embed, *choices, kMaxTableBytes / (2 * strata));
        else part.stratum = listed_stratum(costs, counted, embed, depth, {});
        part.first = count;
        part.count = part.stratum->completions({});
        count += part.count;
        parts.push_back(std::move(part));
      }
  }

  const Part* find(int embed, int depth) const {
    for (const Part& part : parts)
      if (part.stratum->embed() == embed && part.stratum->depth() == depth) return &part;
    return nullptr;
  }

  CostModel costs;
  Budget budget;
  std::vector<Limit> counted;
  Deployable target;
  std::vector<Part> parts;  // every embed width and depth of the space, the empty ones too
  BigInt count = 0;
};

FeasibleSet::FeasibleSet(const CostModel& costs, Budget budget, Deployable target)
    : impl_(std::make_unique<Impl>(costs, std::move(budget), target)) {}
FeasibleSet::~FeasibleSet() = default;
FeasibleSet::FeasibleSet(FeasibleSet&&) noexcept = default;

const BigInt& FeasibleSet::count() const { return impl_->count; }
const CostModel& FeasibleSet::costs() const { return impl_->costs; }
const Budget& FeasibleSet::budget() const { return impl_->budget; }
Deployable FeasibleSet::target() const { return impl_->target; }

bool FeasibleSet::contains(const Subnet& subnet) const {
  const Impl::Part* part = subnet.kept.empty() ? impl_->find(subnet.embed, subnet.depth()) : nullptr;
  return part != nullptr && part->stratum->contains(subnet.blocks);
}

Subnet FeasibleSet::unrank(const BigInt& index) const {
  if (index < 0 || index >= count()) throw std::logic_error("FeasibleSet::unrank: index out of range");
  const auto after = std::ranges::upper_bound(impl_->parts, index, {}, &Impl::Part::first);
  // Empty parts share their `first` with the next one, and upper_bound passes over them.
  const Impl::Part& part = *(after - 1);
  return part.stratum->unrank({}, index - part.first);
}

BigInt FeasibleSet::rank(const Subnet& subnet) const {
  if (!contains(subnet)) throw std::logic_error("FeasibleSet::rank: " + format(subnet) + " is no member");
  const Impl::Part& part = *impl_->find(subnet.embed, subnet.depth());
  return part.first + part.stratum->rank(subnet);
}

Subnet FeasibleSet::draw(Law law, RandomStream& random) const {
  if (empty()) throw std::logic_error("FeasibleSet::draw: the set is empty");
  if (law == Law::uniform) return unrank(draw_below(count(), random));
  std::vector<int> widths;
  for (const auto& part : impl_->parts)
    if (part.count > 0 && (widths.empty() || widths.back() != part.stratum->embed())) widths.push_back(part.stratum->embed());
  const int embed = widths[draw_below(widths.size(), random).convert_to<std::size_t>()];
  std::vector<const Impl::Part*> depths;
  for (const auto& part : impl_->parts)
    if (part.count > 0 && part.stratum->embed() == embed) depths.push_back(&part);
  const Impl::Part& part = *depths[draw_below(depths.size(), random).convert_to<std::size_t>()];
  return part.stratum->unrank({}, draw_below(part.count, random));
}

std::optional<Subnet> FeasibleSet::complete(int embed, int depth, const std::vector<BlockGenes>& prefix, RandomStream& random) const {
  const Impl::Part* part = impl_->find(embed, depth);
  if (part == nullptr) return std::nullopt;
  const BigInt completions = part->stratum->completions(prefix);
  if (completions == 0) return std::nullopt;
  return part->stratum->unrank(prefix, draw_below(completions, random));
}

std::vector<Subnet> FeasibleSet::homogeneous() const {
  const HomogeneousList list(costs().space());
  list.refuse_long("a homogeneous search");
  return homogeneous(static_cast<std::size_t>(kMostHomogeneous));
}

std::vector<Subnet> FeasibleSet::homogeneous(std::size_t most) const {
  const HomogeneousList list(costs().space());
  std::vector<Subnet> members;
  // Of a list that is too long to look through, evenly spaced candidates.
  for (const std::int64_t index : evenly_spaced(list.size(), kMostHomogeneous))
    if (Subnet subnet = list.at(index); contains(subnet)) members.push_back(std::move(subnet));
  if (members.size() <= most) return members;
  std::vector<Subnet> some;
  for (const std::int64_t index : evenly_spaced(static_cast<std::int64_t>(members.size()), static_cast<std::int64_t>(most)))
    some.push_back(members[static_cast<std::size_t>(index)]);
  return some;
}

std::string FeasibleSet::why_empty() const {
  if (!empty()) return "";
  const std::vector<Limit>& limits = impl_->counted;
  FeasibleSet all(costs(), Budget{}, target());
  if (all.empty())
    return "no subnet of the space is deployable as " + std::string(name_of(target())) + "; " + why_no_member(costs().space(), target());
  const std::string plural = all.count() == 1 ? " subnet" : " subnets";
  std::string text = "none of the " + all.count().str() + plural +
                     (target() == Deployable::any ? "" : " deployable as " + std::string(name_of(target()))) + " inside " + budget().text();
  for (std::size_t which = 0; which < limits.size(); ++which) {
    Nearest nearest;
    for (const auto& part : impl_->parts) part.stratum->see_nearest(limits, which, nearest);
    const Limit& limit = budget().limits()[which];
    if (limit.cost == Cost::latency)
      for (auto* sum : {&nearest.below, &nearest.above})
        if (*sum) *sum = costs().latency()->bound_of(**sum);
    const auto value = nearest.closest(limit);
    const std::string name(name_of(limit.cost));
    const std::string others = limits.size() == 1   ? ""
                               : limits.size() == 2 ? " while the other limit holds"
                                                    : " while the other limits hold";
    text +=
        value ? "; nearest " + name + others + ": " + amount_text(limit.cost, *value) : "; " + name + ": no subnet meets the other limits";
  }
  return text;
}

}  // namespace elastiform
