#include "search/deployable_sets.hpp"

#include <algorithm>
#include <set>

#include "kernels/errors.hpp"
#include "search/algorithms/algorithm.hpp"
#include "search/feasible_set.hpp"
#include "tests/search/small_spaces.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

std::vector<int> multiples(int step, int count) {
  std::vector<int> values;
  for (int i = 1; i <= count; ++i) values.push_back(i * step);
  return values;
}

/// embeds · 8 · 8 · widths homogeneous subnets of up to eight blocks.
SearchSpace space_of(int embeds, int widths) {
  ModelConfig model = preset_model("llama");
  model.head_dim = model.context = 8;
  SearchSpace::Block block;
  block.heads = multiples(1, 8);
  block.ffn.widths = multiples(8, widths);
  return SearchSpace(model, multiples(8, embeds), multiples(1, 8), std::vector<SearchSpace::Block>(8, block));
}

TEST_CASE("the list of homogeneous subnets is what brute force finds", "[search]") {
  const auto number = static_cast<std::uint64_t>(GENERATE(range(0, 12)));
  const SearchSpace space = random_space(number);
  std::vector<Subnet> expected;
  for (const Subnet& subnet : every_subnet(space))
    if (std::ranges::all_of(subnet.blocks, [&](const BlockGenes& genes) { return genes == subnet.blocks.front(); }))
      expected.push_back(subnet);
  const HomogeneousList list(space);
  REQUIRE(list.size() == static_cast<std::int64_t>(expected.size()));
  for (std::int64_t i = 0; i < list.size(); ++i) CHECK(list.at(i) == expected[static_cast<std::size_t>(i)]);
  CHECK(space_size(space) == every_subnet(space).size());
}

TEST_CASE("a list that is too long is counted, refused, and never made", "[search]") {
  const SearchSpace space = space_of(64, 64);  // 64 · 8 · 8 · 64
  const CostModel costs = plain_costs(space);
  CHECK(HomogeneousList(space).size() == 262'144);
  CHECK_THROWS_WITH(
      FeasibleSet(costs, Budget{}, parse_deployable("hf-llama")),
      Catch::Contains(
          "--deployable hf-llama: expected a space of at most 100000 homogeneous subnets, which are listed, found 262144; pin"));
  const FeasibleSet any(costs, Budget{});
  CHECK(any.count() == space_size(space));
  CHECK_THROWS_AS(any.homogeneous(), InputError);
  CHECK_THROWS_AS(find_algorithm("homogeneous").make(any, {}), InputError);
  const std::vector<Subnet> some = any.homogeneous(256);
  REQUIRE(some.size() == 256);
  CHECK(some.front() == space.smallest());
  CHECK(some.back() == space.largest());
  CHECK(std::set<Subnet>(some.begin(), some.end()).size() == 256);
}

TEST_CASE("some of the homogeneous members are evenly spaced in the list of all", "[search]") {
  const SearchSpace space = space_of(2, 8);
  const CostModel costs = plain_costs(space);
  const FeasibleSet half(costs, Budget::parse({"parameters=..50%"}, costs));
  const std::vector<Subnet> all = half.homogeneous();
  REQUIRE(all.size() > 300);
  for (const std::size_t most : {1U, 2U, 17U, 256U}) {
    const std::vector<Subnet> some = half.homogeneous(most);
    REQUIRE(some.size() == most);
    for (std::size_t i = 0; i < most; ++i) CHECK(some[i] == all[most == 1 ? 0 : i * (all.size() - 1) / (most - 1)]);
  }
  CHECK(half.homogeneous(all.size()) == all);
  const auto search = find_algorithm("homogeneous").make(half, {.members = 17});
  CHECK(search->ask(100, 0) == half.homogeneous(17));
}

TEST_CASE("the size of a space needs no tables, however large it is", "[search]") {
  ModelConfig model = preset_model("llama");
  SearchSpace::Block block;
  block.heads = multiples(1, 4);
  block.ffn.widths = multiples(1, 4);
  const SearchSpace space(model, {64, 96}, {1000}, std::vector<SearchSpace::Block>(1000, block));
  CHECK(space_size(space) == BigInt(2) << 4000);
}

}  // namespace
}  // namespace elastiform
