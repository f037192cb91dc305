#include "search/deployable_sets.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "kernels/errors.hpp"
#include "search/feasible_set.hpp"
#include "supernet/formats/format.hpp"

namespace elastiform {

bool looks_at_blocks(Deployable target) { return target.format() == nullptr || target.format()->why_not_block != nullptr; }

std::optional<Choices> deployable_choices(const SearchSpace& space, int embed, int depth, Deployable target) {
  const Choices all = choices_of(space, embed, depth);
  if (target.format() == nullptr) return all;
  const Format& format = *target.format();
  const auto takes = [&](std::size_t block, int heads, int ffn) {
    const BlockGenes genes{heads, heads / space.model().queries_per_group, ffn};
    return format.why_not_block(space.model(), embed, static_cast<int>(block), genes).empty();
  };
  Choices some;
  for (std::size_t block = 0; block < all.heads.size(); ++block) {
    const std::vector<int>&heads = all.heads[block], &ffn = all.ffn[block];
    std::vector<int>&some_heads = some.heads.emplace_back(), &some_ffn = some.ffn.emplace_back();
    for (const int h : heads)
      if (std::ranges::any_of(ffn, [&](int f) { return takes(block, h, f); })) some_heads.push_back(h);
    for (const int f : ffn)
      if (std::ranges::any_of(heads, [&](int h) { return takes(block, h, f); })) some_ffn.push_back(f);
    if (some_heads.empty()) return std::nullopt;
    for (const int h : some_heads)
      for (const int f : some_ffn)
        if (!takes(block, h, f)) throw std::logic_error("deployable: " + std::string(format.name) + " does not judge heads and FFN apart");
  }
  // What is left to say is about the model and the depth, the same for every choice.
  Subnet least{.embed = embed, .blocks = {}, .kept = {}};
  for (std::size_t block = 0; block < some.heads.size(); ++block)
    least.blocks.push_back(
        {some.heads[block].front(), some.heads[block].front() / space.model().queries_per_group, some.ffn[block].front()});
  if (!format.why_not(space.model(), least).empty()) return std::nullopt;
  return some;
}

HomogeneousList::HomogeneousList(const SearchSpace& space) : queries_per_group_(space.model().queries_per_group) {
  const auto keep = [](std::vector<int>& common, const std::vector<int>& choices) {
    std::erase_if(common, [&](int value) { return !std::ranges::binary_search(choices, value); });
  };
  for (const int embed : space.embed()) {
    std::vector<int> heads = space.blocks().front().heads, widths = space.blocks().front().ffn.at(embed);
    for (int depth = 1; depth <= space.max_depth(); ++depth) {
      const SearchSpace::Block& block = space.blocks()[static_cast<std::size_t>(depth - 1)];
      keep(heads, block.heads);
      keep(widths, block.ffn.at(embed));
      if (heads.empty() || widths.empty()) break;
      if (!std::ranges::binary_search(space.depth(), depth)) continue;
      parts_.push_back({.embed = embed, .depth = depth, .heads = heads, .widths = widths, .first = size_});
      size_ += static_cast<std::int64_t>(heads.size() * widths.size());
    }
  }
}

Subnet HomogeneousList::at(std::int64_t index) const {
  const Part& part = *(std::ranges::upper_bound(parts_, index, {}, &Part::first) - 1);
  const auto inside = static_cast<std::size_t>(index - part.first);
  const int heads = part.heads[inside / part.widths.size()], width = part.widths[inside % part.widths.size()];
  return {.embed = part.embed, .blocks = {static_cast<std::size_t>(part.depth), {heads, heads / queries_per_group_, width}}, .kept = {}};
}

HomogeneousList::Range HomogeneousList::range(int embed, int depth) const {
  for (const Part& part : parts_)
    if (part.embed == embed && part.depth == depth)
      return {part.first, part.first + static_cast<std::int64_t>(part.heads.size() * part.widths.size())};
  return {0, 0};
}

void HomogeneousList::refuse_long(const std::string& who) const {
  if (size_ > kMostHomogeneous)
    throw InputError({.where = who,
                      .expected = "a space of at most " + std::to_string(kMostHomogeneous) + " homogeneous subnets, which are listed",
                      .found = std::to_string(size_),
                      .remedy = "pin some of the space's embed, depth, heads or ffn"});
}

std::vector<Subnet> deployable_subnets(const SearchSpace& space, const HomogeneousList& list, int embed, int depth, Deployable target) {
  std::vector<Subnet> subnets;
  const HomogeneousList::Range range = list.range(embed, depth);
  for (std::int64_t index = range.begin; index < range.end; ++index)
    if (Subnet subnet = list.at(index); why_not_deployable(space, subnet, target).empty()) subnets.push_back(std::move(subnet));
  return subnets;
}

std::string why_no_member(const SearchSpace& space, Deployable target) {
  if (looks_at_blocks(target)) return format(space.largest()) + ": " + why_not_deployable(space, space.largest(), target);
  const HomogeneousList list(space);
  if (list.size() == 0) return "its blocks allow no common head count and FFN width";
  const Subnet largest = list.at(list.size() - 1);
  return format(largest) + ": " + why_not_deployable(space, largest, target);
}

}  // namespace elastiform
