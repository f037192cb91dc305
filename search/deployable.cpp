#include "search/deployable.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/errors.hpp"
#include "supernet/formats/format.hpp"
#include "supernet/nearest_name.hpp"

namespace elastiform {
namespace {

constexpr std::array<std::string_view, 3> kTargets = {"any", "hf-llama", "hf-gpt2"};

}  // namespace

Law parse_law(std::string_view text) {
  for (const Law law : {Law::balanced, Law::uniform})
    if (text == name_of(law)) return law;
  throw unknown_name("law", text, {"balanced", "uniform"});
}

std::string_view name_of(Deployable target) { return kTargets[static_cast<std::size_t>(target)]; }

Deployable parse_deployable(std::string_view text) {
  for (const Deployable target : {Deployable::any, Deployable::hf_llama, Deployable::hf_gpt2})
    if (text == name_of(target)) return target;
  throw unknown_name("deployable", text, {kTargets.begin(), kTargets.end()});
}

std::string why_not_deployable(const SearchSpace& space, const Subnet& subnet, Deployable target) {
  // The exporter itself answers, so what a search may propose and what an export writes cannot differ.
  return target == Deployable::any ? "" : find_format(name_of(target)).why_not(space.model(), subnet);
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
  const HomogeneousList list(space);
  if (list.size() == 0) return "its blocks allow no common head count and FFN width";
  const Subnet largest = list.at(list.size() - 1);
  return format(largest) + ": " + why_not_deployable(space, largest, target);
}

}  // namespace elastiform
