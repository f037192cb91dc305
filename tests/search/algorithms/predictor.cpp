// What the predictor is for: few evaluations of many blocks of which one is worth more than all others, as in pretrained networks.
#include <algorithm>
#include <cmath>
#include <limits>

#include "search/algorithms/loss_model.hpp"
#include "search/feasible_set.hpp"
#include "tests/search/algorithms/textbook.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

SearchSpace many_blocks() {
  ModelConfig model = preset_model("llama");
  model.head_dim = 8;
  model.context = 16;
  model.vocabulary = 32;
  SearchSpace::Block block;
  block.heads = {2};
  for (int width = 32; width <= 96; width += 4) block.ffn.widths.push_back(width);
  return {model, {16}, {24}, std::vector<SearchSpace::Block>(24, block)};
}

/// Squares of what blocks lack; the first block's counts twenty times.
double uneven_loss(const Subnet& subnet) {
  double loss = 3;
  for (std::size_t i = 0; i < subnet.blocks.size(); ++i) {
    const double lacking = 1 - subnet.blocks[i].ffn / 96.0, worth = i == 0 ? 20 : 1 + 0.5 * std::sin(static_cast<double>(i));
    loss += 0.2 * worth * lacking * lacking;
  }
  return loss;
}

std::vector<Evaluation> evaluated(const std::vector<Subnet>& subnets) {
  std::vector<Evaluation> told(subnets.size());
  for (std::size_t i = 0; i < subnets.size(); ++i) {
    told[i].subnet = subnets[i];
    told[i].score.loss = uneven_loss(subnets[i]);
  }
  return told;
}

}  // namespace

TEST_CASE("48 evaluations of the predictor find more than those of evolution where blocks differ in worth", "[search][algorithms]") {
  const CostModel costs = plain_costs(many_blocks());
  const FeasibleSet set(costs, Budget::parse({"block_parameters=80%..85%"}, costs));
  double even = 1e9;
  for (const Subnet& one : set.homogeneous()) even = std::min(even, uneven_loss(one));
  const auto best_of = [&](std::string_view name, std::uint64_t seed) {
    const auto algorithm = find_algorithm(name).make(set, {.seed = seed, .population = 8, .tournament = 4, .founders = 4});
    double best = 1e9;
    for (std::uint64_t round = 0; round < 6; ++round) {
      const auto told = evaluated(algorithm->ask(8, round));
      for (const Evaluation& one : told) best = std::min(best, one.score.loss);
      algorithm->tell(told);
    }
    return best;
  };
  double evolved = 0, predicted = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    CAPTURE(seed, even);
    evolved += best_of("evolution", seed) / 8;
    const double best = best_of("predictor", seed);
    CHECK(best < even - 0.1);
    predicted += best / 8;
  }
  CAPTURE(even, evolved, predicted);
  CHECK(evolved < even);
  CHECK(even - predicted > 1.5 * (even - evolved));
}

TEST_CASE("the predictor leaves alone what diverges, and what is worth a thousand times as much", "[search][algorithms]") {
  const CostModel costs = plain_costs(many_blocks());
  const FeasibleSet set(costs, Budget::parse({"block_parameters=70%..85%"}, costs));
  const double bad = GENERATE(100.0, std::numeric_limits<double>::quiet_NaN());
  const auto algorithm = find_algorithm("predictor").make(set, {.seed = 3, .population = 16, .tournament = 4});
  int spoiled_late = 0, late = 0;
  for (std::uint64_t round = 0; round < 20; ++round) {
    auto told = evaluated(algorithm->ask(8, round));
    for (Evaluation& one : told) {
      const bool spoiled = one.subnet.blocks[5].ffn < 64;
      if (spoiled) one.score.loss = bad;
      if (round >= 10) ++late, spoiled_late += spoiled ? 1 : 0;
    }
    algorithm->tell(told);
  }
  CAPTURE(bad, spoiled_late, late);
  REQUIRE(late == 80);
  CHECK(spoiled_late < late / 10);
}

TEST_CASE("a loss model orders what it has not seen, and knows the block that is worth most", "[search][algorithms]") {
  const SearchSpace space = many_blocks();
  const CostModel costs = plain_costs(space);
  const FeasibleSet set(costs, Budget{});
  RandomStream random(1, Purpose::test);
  std::vector<Member> told;
  for (int i = 0; i < 300; ++i) {
    const Subnet subnet = set.draw(Law::uniform, random);
    told.push_back({subnet, uneven_loss(subnet)});
  }
  told.push_back({set.draw(Law::uniform, random), std::numeric_limits<double>::infinity()});  // a loss that was no number
  const LossModel model(space, told);
  const std::vector<double> effects = model.draw(random);
  int ordered = 0;
  for (int i = 0; i < 200; ++i) {
    const Subnet a = set.draw(Law::uniform, random), b = set.draw(Law::uniform, random);
    ordered += (model.predict(a, effects) < model.predict(b, effects)) == (uneven_loss(a) < uneven_loss(b)) ? 1 : 0;
  }
  CHECK(ordered >= 190);
  const auto missed_without = [&](std::size_t block) {
    Subnet cut = set.unrank(set.count() - 1);
    const double whole = model.predict(cut, effects);
    cut.blocks[block].ffn = 32;
    return model.predict(cut, effects) - whole;
  };
  for (std::size_t block = 1; block < 24; ++block) CHECK(missed_without(0) > 3 * missed_without(block));
}

TEST_CASE("the predictor refuses a space of more blocks than its model can hold, in one line", "[search][algorithms]") {
  SearchSpace::Block block;
  block.heads = {2};
  block.ffn.widths = {32, 96};
  const SearchSpace deep(many_blocks().model(), {16}, {513}, std::vector<SearchSpace::Block>(513, block));
  const CostModel costs = plain_costs(deep);
  const FeasibleSet set(costs, Budget{});
  CHECK_THROWS_WITH(find_algorithm("predictor").make(set, {}), Catch::Contains("at most 512 blocks") && Catch::Contains("found 513"));
}

TEST_CASE("what a subnet lacks is told by block of the supernet, whichever are kept", "[search][algorithms]") {
  const SearchSpace space = textbook_space();
  const LackingShares shares(space);
  const auto of = [&](const char* text) { return shares.of(parse_subnet(text)); };
  const auto whole = of("e32:6xh4f96");
  CHECK(whole.size() == 9 + 6 * 4);
  CHECK(whole[0] == 1);
  CHECK(std::ranges::count(whole, 0.0) == std::ssize(whole) - 1);
  const auto kept = of("e16:2xh4f96,h1f48,2xh4f96@0-1,3-5");
  CHECK(kept[1] == 0.5);   // embed 16 of 32
  CHECK(kept[2] == 0.25);  // its square
  CHECK(kept[3] == Approx(1.0 / 6));
  CHECK(kept[5] == Approx(1 + 0.75));  // heads: block 2 is away, block 3 has 1 of 4
  CHECK(kept[7] == Approx(1 + 0.5));   // columns
  CHECK(kept[9 + 4 * 2] == 1);         // block 2's heads
  CHECK(kept[9 + 4 * 3] == 0.75);      // block 3's
  CHECK(kept[9 + 4 * 3 + 3] == 0.25);  // the square of its columns
  CHECK(kept[9 + 4 * 4] == 0);
}

}  // namespace elastiform
