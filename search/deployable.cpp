#include "search/deployable.hpp"

#include <algorithm>
#include <array>

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

std::vector<Subnet> homogeneous_subnets(const SearchSpace& space, int embed, int depth) {
  std::vector<int> heads = space.blocks().front().heads, widths = space.blocks().front().ffn.at(embed);
  const auto keep = [](std::vector<int>& common, const std::vector<int>& choices) {
    std::erase_if(common, [&](int value) { return !std::ranges::binary_search(choices, value); });
  };
  for (int i = 1; i < depth; ++i) {
    keep(heads, space.blocks()[static_cast<std::size_t>(i)].heads);
    keep(widths, space.blocks()[static_cast<std::size_t>(i)].ffn.at(embed));
  }
  std::vector<Subnet> subnets;
  for (const int head : heads)
    for (const int width : widths)
      subnets.push_back({.embed = embed,
                         .blocks = {static_cast<std::size_t>(depth), {head, head / space.model().queries_per_group, width}},
                         .kept = {}});
  return subnets;
}

std::vector<Subnet> deployable_subnets(const SearchSpace& space, int embed, int depth, Deployable target) {
  std::vector<Subnet> subnets = homogeneous_subnets(space, embed, depth);
  std::erase_if(subnets, [&](const Subnet& subnet) { return !why_not_deployable(space, subnet, target).empty(); });
  return subnets;
}

std::string why_no_member(const SearchSpace& space, Deployable target) {
  std::string reason = "its blocks allow no common head count and FFN width";
  for (const int embed : space.embed())
    for (const int depth : space.depth())
      for (const Subnet& subnet : homogeneous_subnets(space, embed, depth)) reason = format(subnet) + ": " + why_not_deployable(space, subnet, target);
  return reason;
}

}  // namespace elastiform
