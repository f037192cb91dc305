#include "tests/search/small_spaces.hpp"

#include <algorithm>

namespace elastiform {
namespace {

std::vector<int> choose(const std::vector<int>& from, std::size_t most, RandomStream& random) {
  std::vector<int> chosen;
  const std::size_t count = 1 + random.below(most);
  while (chosen.size() < count) {
    const int value = from[random.below(from.size())];
    if (std::ranges::find(chosen, value) == chosen.end()) chosen.push_back(value);
  }
  return chosen;
}

void extend(const SearchSpace& space, Subnet& subnet, std::size_t depth, std::vector<Subnet>& all) {
  if (subnet.blocks.size() == depth) {
    all.push_back(subnet);
    return;
  }
  const SearchSpace::Block& block = space.blocks()[subnet.blocks.size()];
  for (const int heads : block.heads)
    for (const int width : block.ffn.at(subnet.embed)) {
      subnet.blocks.push_back({heads, heads / space.model().queries_per_group, width});
      extend(space, subnet, depth, all);
      subnet.blocks.pop_back();
    }
}

}  // namespace

CostModel plain_costs(const SearchSpace& space) {
  return {space, Deploy{}, 1, [](const WeightTable& table) { return 8 * table.elements(); }};
}

SearchSpace random_space(std::uint64_t number) {
  RandomStream random(number, Purpose::test);
  ModelConfig model = preset_model(number % 2 == 0 ? "llama" : "gpt2");
  model.head_dim = 8;
  model.context = 16;
  model.queries_per_group = number % 3 == 0 ? 2 : 1;
  const int q = model.queries_per_group;
  const auto blocks = 1 + random.below(4);
  std::vector<SearchSpace::Block> list;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    SearchSpace::Block block;
    block.heads = choose({q, 2 * q, 3 * q, 5 * q}, 3, random);
    if (random.below(2) == 0) block.ffn.ratios = {1, 2.4, 3};
    else block.ffn.widths = choose({24, 32, 56, 72, 100}, 3, random);
    if (number % 4 == 3 && random.below(2) == 0) block.heads.push_back(0);
    else if (number % 4 == 3 && !block.ffn.widths.empty()) block.ffn.widths.push_back(0);
    list.push_back(block);
  }
  std::vector<int> depths;
  for (std::uint64_t d = 1; d <= blocks; ++d)
    if (d == blocks || random.below(2) == 0) depths.push_back(static_cast<int>(d));
  return {model, choose({16, 24, 40, 64}, 2, random), depths, list};
}

std::vector<Subnet> every_subnet(const SearchSpace& space) {
  std::vector<Subnet> all;
  for (const int embed : space.embed())
    for (const int depth : space.depth()) {
      Subnet subnet{.embed = embed, .blocks = {}, .kept = {}};
      extend(space, subnet, static_cast<std::size_t>(depth), all);
    }
  return all;
}

SearchSpace deep_space() {
  SearchSpace::Block block;
  block.heads = {6, 10};
  block.ffn.ratios = {2, 3, 4};
  return {preset_model("llama"), {320, 384, 448}, {52, 53, 54, 55, 56}, std::vector<SearchSpace::Block>(56, block)};
}

SearchSpace wide_space() {
  SearchSpace::Block block;
  block.heads = {4, 5, 6, 8, 10};
  block.ffn.ratios = {1, 1.5, 2, 3, 4};
  return {preset_model("llama"), {320, 384, 448}, {28, 29, 30, 31, 32}, std::vector<SearchSpace::Block>(32, block)};
}

}  // namespace elastiform
