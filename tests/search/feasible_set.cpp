#include "search/feasible_set.hpp"

#include <algorithm>

#include "supernet/formats/format.hpp"
#include "tests/search/small_spaces.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

/// The limits of case `kind` for a space: one-sided, two-sided, two joint costs, three; between costs that occur, so that ends are hit.
std::vector<std::string> limits_of(int kind, const std::vector<Subnet>& all, const CostModel& costs, std::uint64_t number) {
  RandomStream random(number, Purpose::test, 1, static_cast<std::uint32_t>(kind));
  const auto some = [&](Cost cost) { return value_of(costs.of(all[random.below(all.size())]), cost); };
  const auto range = [&](Cost cost) {
    const std::int64_t a = some(cost), b = some(cost);
    return std::string(name_of(cost)) + "=" + std::to_string(std::min(a, b)) + ".." + std::to_string(std::max(a, b));
  };
  switch (kind) {
    case 0: return {"parameters=.." + std::to_string(some(Cost::parameters))};
    case 1: return {"macs=" + std::to_string(some(Cost::macs)) + ".."};
    case 2: return {range(Cost::parameters)};
    case 3: return {range(Cost::parameters), range(Cost::macs)};
    case 4:
      return {range(Cost::block_parameters), "macs=.." + std::to_string(some(Cost::macs)),
              "parameters=.." + std::to_string(some(Cost::parameters))};
    default: return {};
  }
}

std::vector<Subnet> admitted(const std::vector<Subnet>& all, const CostModel& costs, const Budget& budget) {
  std::vector<Subnet> members;
  for (const Subnet& subnet : all)
    if (budget.admits(costs.of(subnet))) members.push_back(subnet);
  return members;
}

/// The costs that why_empty() has to name, from all subnets: the nearest to each limit among those that satisfy the others.
std::string nearest_by_force(const std::vector<Subnet>& all, const CostModel& costs, const Budget& budget, std::size_t which) {
  const Limit& limit = budget.limits()[which];
  std::int64_t best = 0, distance = INT64_MAX;
  for (const Subnet& subnet : all) {
    const Costs of = costs.of(subnet);
    bool others = true;
    for (std::size_t i = 0; i < budget.limits().size(); ++i) {
      const Limit& other = budget.limits()[i];
      const std::int64_t value = value_of(of, other.cost);
      others = others && (i == which || (value >= other.low && value <= other.high));
    }
    const std::int64_t value = value_of(of, limit.cost), away = value < limit.low ? limit.low - value : value - limit.high;
    if (others && (away < distance || (away == distance && value < best))) best = value, distance = away;
  }
  const std::string name(name_of(limit.cost));
  if (distance == INT64_MAX) return name + ": no subnet meets the other limits";
  const char* suffix = budget.limits().size() == 1   ? ""
                       : budget.limits().size() == 2 ? " while the other limit holds"
                                                     : " while the other limits hold";
  return "nearest " + name + suffix + ": " + std::to_string(best);
}

}  // namespace

TEST_CASE("Feasible sets are what brute force finds, in order, for every kind of budget", "[search]") {
  const auto number = static_cast<std::uint64_t>(GENERATE(range(0, 20)));
  const SearchSpace space = random_space(number);
  const CostModel costs = plain_costs(space);
  const std::vector<Subnet> all = every_subnet(space);
  REQUIRE(std::ranges::is_sorted(all));
  for (int kind = 0; kind < 6; ++kind) {
    const Budget budget = Budget::parse(limits_of(kind, all, costs, number), costs);
    CAPTURE(number, kind, space.text(), budget.text());
    const FeasibleSet set(costs, budget);
    const std::vector<Subnet> members = admitted(all, costs, budget);
    REQUIRE(set.count() == members.size());
    bool equal = true;
    for (std::size_t i = 0; i < members.size(); ++i) equal = equal && set.unrank(i) == members[i] && set.rank(members[i]) == i;
    CHECK(equal);
    std::size_t contained = 0;
    for (const Subnet& subnet : all) contained += set.contains(subnet) ? 1 : 0;
    CHECK(contained == members.size());
    const auto uniform = [](const Subnet& s) {
      return std::ranges::all_of(s.blocks, [&](const BlockGenes& g) { return g == s.blocks.front(); });
    };
    std::vector<Subnet> homogeneous;
    std::ranges::copy_if(members, std::back_inserter(homogeneous), uniform);
    CHECK(set.homogeneous() == homogeneous);
    CHECK(set.why_empty().empty() == !members.empty());
  }
}

TEST_CASE("An empty budget is refused with the true nearest costs", "[search]") {
  int empty = 0;
  for (std::uint64_t number = 0; number < 20; ++number) {
    const SearchSpace space = random_space(number);
    const CostModel costs = plain_costs(space);
    const std::vector<Subnet> all = every_subnet(space);
    const Costs low = costs.of(space.smallest()), high = costs.of(space.largest()), one = costs.of(all[all.size() / 2]);
    const std::vector<std::vector<std::string>> texts = {
        {"parameters=.." + std::to_string(low.parameters - 1)},
        {"macs=" + std::to_string(high.macs + 1) + ".."},
        {"parameters=" + std::to_string(one.parameters + 1) + ".." + std::to_string(one.parameters + 3)},
        {"parameters=.." + std::to_string(low.parameters + 900), "macs=" + std::to_string(one.macs + 1) + ".."},
        {"parameters=" + std::to_string(one.parameters) + ".." + std::to_string(one.parameters),
         "macs=" + std::to_string(one.macs + 1) + ".." + std::to_string(one.macs + 9),
         "block_parameters=1.." + std::to_string(high.block_parameters + 1)},
        {"parameters=..1", "macs=..1"}};
    for (const auto& text : texts) {
      const Budget budget = Budget::parse(text, costs);
      const FeasibleSet set(costs, budget);
      if (!set.empty()) continue;
      ++empty;
      const std::string why = set.why_empty();
      CAPTURE(number, why);
      CHECK(why.find('\n') == std::string::npos);
      CHECK(why.starts_with("none of the " + std::to_string(all.size())));
      for (std::size_t i = 0; i < budget.limits().size(); ++i) CHECK_THAT(why, Catch::Contains(nearest_by_force(all, costs, budget, i)));
    }
  }
  CHECK(empty > 60);
}

namespace {

BigInt random_index(const BigInt& count, RandomStream& random) {
  BigInt index = random.next_u64();
  for (int word = 0; word < 3; ++word) index = (index << 64) | random.next_u64();
  return index % (count - 1);
}

/// rank(unrank(i)) = i at `indices` random places; every hundredth is compared with its neighbour and with the cost model.
void check_inverse(const FeasibleSet& set, int indices) {
  const BigInt ten40("10000000000000000000000000000000000000000");
  REQUIRE(set.count() > ten40);
  RandomStream random(1, Purpose::test);
  bool inverse = true, ordered = true, inside = true;
  for (int i = 0; i < indices; ++i) {
    const BigInt index = random_index(set.count(), random);
    const Subnet subnet = set.unrank(index);
    inverse = inverse && set.rank(subnet) == index;
    if (i % 100 == 0) {
      ordered = ordered && subnet < set.unrank(index + 1);
      inside = inside && set.budget().admits(set.costs().of(subnet)) && set.contains(subnet);
    }
  }
  CHECK(inverse);
  CHECK(ordered);
  CHECK(inside);
  CHECK(set.rank(set.unrank(0)) == 0);
  CHECK(set.rank(set.unrank(set.count() - 1)) == set.count() - 1);
}

}  // namespace

TEST_CASE("rank(unrank(i)) = i for 10^5 indices of more than 10^40 subnets", "[search]") {
  const CostModel costs = plain_costs(deep_space());
  check_inverse(FeasibleSet(costs, Budget::parse({"parameters=..60%"}, costs)), 100'000);
}

TEST_CASE("rank(unrank(i)) = i under a joint budget, and where the numbers need more words", "[search]") {
  const CostModel costs = plain_costs(wide_space());
  check_inverse(FeasibleSet(costs, Budget::parse({"parameters=45%..70%,macs=..65%"}, costs)), 2'000);
  SearchSpace::Block block;
  block.heads = {1, 2, 3, 4, 5, 6, 7, 9};
  block.ffn.ratios = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const CostModel huge = plain_costs(SearchSpace(preset_model("llama"), {64}, {60}, std::vector<SearchSpace::Block>(60, block)));
  check_inverse(FeasibleSet(huge, Budget::parse({"parameters=..50%"}, huge)), 50);  // 8^60 · 9^60: 3 + 3 words
}

TEST_CASE("complete() draws uniformly from the members with a given beginning", "[search]") {
  const SearchSpace space = random_space(8);
  const CostModel costs = plain_costs(space);
  const FeasibleSet set(costs, Budget::parse({"parameters=..70%"}, costs));
  RandomStream random(2, Purpose::test);
  for (int i = 0; i < 200; ++i) {
    const Subnet subnet = set.draw(Law::uniform, random);
    std::vector<BlockGenes> prefix(subnet.blocks.begin(),
                                   subnet.blocks.begin() + static_cast<std::ptrdiff_t>(random.below(subnet.blocks.size() + 1)));
    const auto completed = set.complete(subnet.embed, subnet.depth(), prefix, random);
    REQUIRE(completed);
    CHECK(set.contains(*completed));
    CHECK(completed->embed == subnet.embed);
    CHECK(completed->depth() == subnet.depth());
    CHECK(std::equal(prefix.begin(), prefix.end(), completed->blocks.begin()));
  }
  CHECK_FALSE(set.complete(9999, space.max_depth(), {}, random));
  Subnet wrong_groups = set.draw(Law::uniform, random);
  ++wrong_groups.blocks.front().groups;
  CHECK_FALSE(set.contains(wrong_groups));
  CHECK_FALSE(set.complete(space.max_embed(), space.max_depth(), {{7, 7, 7}}, random));
}

TEST_CASE("Deployable sets are the homogeneous members that the exporter accepts", "[search]") {
  SearchSpace::Block block;
  block.heads = {1, 2, 4};
  block.ffn.ratios = {2, 4};
  ModelConfig llama = preset_model("llama"), gpt2 = preset_model("gpt2");
  llama.head_dim = gpt2.head_dim = 16;
  llama.context = gpt2.context = 16;
  const SearchSpace llama_space(llama, {32, 64}, {1, 2, 3}, {block, block, block}),
      gpt2_space(gpt2, {32, 64}, {1, 2, 3}, {block, block, block});
  const CostModel llama_costs = plain_costs(llama_space), gpt2_costs = plain_costs(gpt2_space);

  const FeasibleSet any(llama_costs, Budget{}), deployable(llama_costs, Budget{}, parse_deployable("hf-llama"));
  CHECK(any.count() == 2 * (6 + 36 + 216));
  CHECK(deployable.count() == 2 * 3 * 6);
  std::vector<Subnet> members;
  for (BigInt i = 0; i < deployable.count(); ++i) {
    members.push_back(deployable.unrank(i));
    CHECK(deployable.rank(members.back()) == i);
    CHECK(why_not_deployable(llama_space, members.back(), parse_deployable("hf-llama")).empty());
  }
  CHECK(members == any.homogeneous());
  CHECK(std::ranges::is_sorted(members));
  CHECK_FALSE(deployable.contains(parse_subnet("e32:h1f64,h2f64")));
  CHECK_FALSE(why_not_deployable(llama_space, parse_subnet("e32:h1f64,h2f64"), parse_deployable("hf-llama")).empty());

  const FeasibleSet gpt2_set(gpt2_costs, Budget{}, parse_deployable("hf-gpt2"));  // 32 = 2 · 16 and 64 = 4 · 16: one head count a width
  CHECK(gpt2_set.count() == 2 * 3 * 2);
  const FeasibleSet wrong(gpt2_costs, Budget{}, parse_deployable("hf-llama"));
  CHECK(wrong.empty());
  CHECK_THAT(wrong.why_empty(), Catch::Contains("hf-llama"));
  const FeasibleSet tight(llama_costs, Budget::parse({"parameters=..10"}, llama_costs), parse_deployable("hf-llama"));
  CHECK_THAT(tight.why_empty(),
             Catch::Contains("nearest parameters: " + std::to_string(llama_costs.of(llama_space.smallest()).parameters)));
}

TEST_CASE("Targets that look at each block leave what brute force finds the exporter to accept", "[search]") {
  // Above the random ones, of which few are Llama's with an absent branch: blocks that may lack attention, and sizes of blocks of 32 and not.
  const auto number = static_cast<std::uint64_t>(GENERATE(range(0, 9)));
  ModelConfig llama = preset_model("llama");
  llama.head_dim = llama.context = 16;
  const SearchSpace::Block block{.heads = {0, 1, 2, 4}, .ffn = {.widths = {24, 32, 64}, .ratios = {}}};
  const std::string target = GENERATE("gguf", "gguf-q8_0", "hf-auto", "elastiform");
  const SearchSpace space = number < 8 ? random_space(number) : SearchSpace(llama, {24, 32, 64}, {1, 2}, {block, block});
  const CostModel costs = plain_costs(space);
  std::vector<Subnet> expected;
  for (const Subnet& subnet : every_subnet(space))
    if (find_format(target).why_not(space.model(), subnet).empty()) expected.push_back(subnet);
  CAPTURE(number, target);
  const FeasibleSet set(costs, Budget{}, parse_deployable(target));
  REQUIRE(set.count() == expected.size());
  for (std::size_t i = 0; i < expected.size(); i += 1 + expected.size() / 50) CHECK(set.unrank(i) == expected[i]);
  const FeasibleSet half(costs, Budget::parse({"parameters=..50%"}, costs), parse_deployable(target));
  CHECK(half.count() == std::count_if(expected.begin(), expected.end(), [&](const Subnet& subnet) { return half.contains(subnet); }));
  if (set.empty()) CHECK_THAT(set.why_empty(), Catch::Contains(target));
}

TEST_CASE("A space whose tables would not fit is refused in one line", "[search]") {
  SearchSpace::Block block;
  block.heads = {1, 2, 3};
  block.ffn.widths = {8, 4099, 9001};
  const SearchSpace space(preset_model("llama"), {64}, {2000}, std::vector<SearchSpace::Block>(2000, block));
  const CostModel costs = plain_costs(space);
  CHECK_THROWS_WITH(FeasibleSet(costs, Budget{}), Catch::Contains("space") && Catch::Contains("MiB") && Catch::Contains("fewer blocks"));
}

}  // namespace elastiform
