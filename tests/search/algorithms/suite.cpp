// What every search algorithm has to do, over all rows of the registry; networks are not needed.
#include <algorithm>

#include "kernels/errors.hpp"
#include "search/feasible_set.hpp"
#include "search/pareto_front.hpp"
#include "tests/search/algorithms/textbook.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const AlgorithmEntry& entry : search_algorithms()) all.emplace_back(entry.name);
  return all;
}

std::vector<std::string> trace(const std::vector<Evaluation>& evaluations) {
  std::vector<std::string> texts;
  for (const Evaluation& evaluation : evaluations) texts.push_back(std::to_string(evaluation.id) + " " + format(evaluation.subnet));
  return texts;
}

}  // namespace

TEST_CASE("Every algorithm asks only feasible, unseen, canonical subnets", "[search][algorithms]") {
  const auto name = GENERATE(from_range(names()));
  const CostModel costs = plain_costs(textbook_space());
  const FeasibleSet set(costs, Budget::parse({"parameters=30%..60%,macs=..70%"}, costs));
  const auto algorithm = find_algorithm(name).make(set, {.law = Law::balanced, .seed = 3, .population = 20, .tournament = 5});
  TextbookEvaluator evaluator;
  std::set<Subnet> seen;
  for (std::uint64_t round = 0; round < 30; ++round) {
    const std::vector<Subnet> asked = algorithm->ask(13, round);
    CAPTURE(name, round);
    CHECK(asked == algorithm->ask(13, round));  // asking changes nothing
    CHECK(asked.size() <= 13);
    for (const Subnet& one : asked) {
      CHECK(set.contains(one));
      CHECK(parse_subnet(format(one)) == one);
      CHECK(seen.insert(one).second);
    }
    tell_scores(*algorithm, evaluator, asked);
  }
  // The second round only completes a founding population of 20.
  CHECK(seen.size() == (name == "homogeneous" ? set.homogeneous().size() : find_algorithm(name).has_population ? 20U + 28 * 13 : 30U * 13));
}

TEST_CASE("Every algorithm ends on an exhausted set, having seen all it is for", "[search][algorithms]") {
  const auto name = GENERATE(from_range(names()));
  const auto budget = GENERATE(as<std::string>{}, "parameters=..40%", "parameters=..35%,macs=30%..", "parameters=..100%");
  ModelConfig model = preset_model("llama");
  model.head_dim = 8;
  model.context = 16;
  SearchSpace::Block block;
  block.heads = {1, 2, 3};
  block.ffn.widths = {8, 64};
  const SearchSpace space(model, {8, 64}, {1, 2}, {block, block});
  const CostModel costs = plain_costs(space);
  const FeasibleSet set(costs, Budget::parse({budget}, costs));
  const TemporaryFolder folder;
  TextbookEvaluator evaluator;
  CAPTURE(name, budget);
  const auto found = TextbookSearch{.set = set, .algorithm = name, .seed = 1, .evaluations = 1000}.run(folder, evaluator);
  std::set<Subnet> distinct;
  for (const Evaluation& evaluation : found) distinct.insert(evaluation.subnet);
  CHECK(distinct.size() == found.size());
  CHECK(found.size() == (name == "homogeneous" ? set.homogeneous().size() : set.count().convert_to<std::size_t>()));
}

TEST_CASE("Same seed, same search; killed between rounds and continued, the same too", "[search][algorithms]") {
  const auto name = GENERATE(from_range(names()));
  const CostModel costs = plain_costs(textbook_space());
  const FeasibleSet set(costs, Budget::parse({"parameters=..60%"}, costs));
  const auto founders = GENERATE(as<std::size_t>{}, 0, 12);
  const TextbookSearch search{.set = set, .algorithm = name, .seed = 5, .evaluations = 150, .founders = founders};
  CAPTURE(name, founders);
  TextbookEvaluator whole_evaluator, cut_evaluator, again_evaluator;
  const TemporaryFolder whole, cut, again;
  const auto uninterrupted = trace(search.run(whole, whole_evaluator));
  REQUIRE(!uninterrupted.empty());
  CHECK(trace(search.run(again, again_evaluator)) == uninterrupted);
  CHECK(search.run(cut, cut_evaluator, 1).size() < uninterrupted.size());
  search.run(cut, cut_evaluator, 2);
  CHECK(trace(search.run(cut, cut_evaluator)) == uninterrupted);
  CHECK(cut_evaluator.evaluated == whole_evaluator.evaluated);  // nothing was scored twice
  CHECK(trace(search.run(cut, cut_evaluator)) == uninterrupted);
  CHECK(cut_evaluator.evaluated == whole_evaluator.evaluated);
  if (name == "homogeneous") return;
  TextbookSearch other = search;
  other.seed = 6;
  CHECK(trace(other.run(again, again_evaluator)) != uninterrupted);
}

TEST_CASE("Evolution and the predictor reach the optimum of an additive loss, where random search does not come near",
          "[search][algorithms]") {
  const auto budget = GENERATE(as<std::string>{}, "parameters=..35%", "parameters=..80%");
  const SearchSpace space = textbook_space();
  const CostModel costs = plain_costs(space);
  const FeasibleSet set(costs, Budget::parse({budget}, costs));
  TextbookEvaluator evaluator;
  double optimum = 1e9, homogeneous = 1e9;
  for (const Subnet& subnet : every_subnet(space))
    if (set.contains(subnet)) optimum = std::min(optimum, evaluator.loss(subnet));
  for (const Subnet& subnet : set.homogeneous()) homogeneous = std::min(homogeneous, evaluator.loss(subnet));
  const auto best_of = [&](std::string_view name, std::uint64_t seed) {
    const auto algorithm = find_algorithm(name).make(set, {.law = Law::balanced, .seed = seed, .population = 32, .tournament = 8});
    double best = 1e9;
    for (std::uint64_t round = 0; round < 75; ++round) {
      for (const Evaluation& one : tell_scores(*algorithm, evaluator, algorithm->ask(16, round))) best = std::min(best, one.score.loss);
    }
    return best;
  };
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const double evolved = best_of("evolution", seed), predicted = best_of("predictor", seed), drawn = best_of("random", seed);
    CAPTURE(budget, seed, optimum, evolved, predicted, drawn, homogeneous);
    CHECK(evolved < optimum + 0.005);
    CHECK(predicted < optimum + 0.005);
    CHECK(drawn > optimum + 0.02);
    CHECK(homogeneous > optimum + 0.02);
  }
}

TEST_CASE("A first population begins with homogeneous subnets where these are asked for", "[search][algorithms]") {
  const auto name = GENERATE(as<std::string>{}, "evolution", "predictor");
  const CostModel costs = plain_costs(textbook_space());
  const FeasibleSet set(costs, Budget::parse({"parameters=..60%"}, costs));
  const auto founders = GENERATE(as<std::size_t>{}, 5, 10, 1000);
  const std::vector<Subnet> homogeneous = set.homogeneous(std::min<std::size_t>(founders, 20));
  const auto algorithm = find_algorithm(name).make(set, {.seed = 3, .population = 20, .tournament = 5, .founders = founders});
  TextbookEvaluator evaluator;
  std::vector<Subnet> first;
  for (std::uint64_t round = 0; first.size() < 20; ++round) {
    const std::vector<Subnet> asked = algorithm->ask(7, round);
    REQUIRE_FALSE(asked.empty());
    CHECK(asked == algorithm->ask(7, round));
    tell_scores(*algorithm, evaluator, asked);
    first.insert(first.end(), asked.begin(), asked.end());
  }
  CAPTURE(name, founders, homogeneous.size());
  REQUIRE(first.size() == 20);
  CHECK(std::set(first.begin(), first.end()).size() == 20);
  for (const Subnet& one : first) CHECK(set.contains(one));
  REQUIRE(homogeneous.size() == std::min<std::size_t>({founders, 20, set.homogeneous().size()}));
  CHECK(std::equal(homogeneous.begin(), homogeneous.end(), first.begin()));
  const auto alike = [](const Subnet& one) { return std::ranges::count(one.blocks, one.blocks.front()) == std::ssize(one.blocks); };
  if (homogeneous.size() < 20) CHECK_FALSE(alike(first[homogeneous.size()]));
}

TEST_CASE("Random search over all of a set finds its whole front", "[search][algorithms]") {
  const CostModel costs = plain_costs(random_space(8));
  const FeasibleSet set(costs, Budget{});
  const TemporaryFolder folder;
  TextbookEvaluator evaluator;
  const auto found = TextbookSearch{.set = set, .algorithm = "random", .seed = 2, .evaluations = 100'000}.run(folder, evaluator);
  ParetoFront front(Cost::macs), truth(Cost::macs);
  for (const Evaluation& evaluation : found) front.add(evaluation);
  for (BigInt i = 0; i < set.count(); ++i) {
    Evaluation evaluation;
    evaluation.subnet = set.unrank(i);
    evaluation.costs = costs.of(evaluation.subnet);
    evaluation.score.loss = evaluator.loss(evaluation.subnet);
    truth.add(evaluation);
  }
  REQUIRE(front.members().size() == truth.members().size());
  for (std::size_t i = 0; i < front.members().size(); ++i) {
    CHECK(front.members()[i].costs.macs == truth.members()[i].costs.macs);
    CHECK(front.members()[i].score.loss == truth.members()[i].score.loss);
  }
}

TEST_CASE("A deployable set is searched without leaving it", "[search][algorithms]") {
  const auto name = GENERATE(from_range(names()));
  ModelConfig model = preset_model("llama");
  model.context = 16;
  SearchSpace::Block block;
  block.heads = {1, 2, 3, 4};
  block.ffn.ratios = {1, 2, 3, 4};
  const CostModel costs = plain_costs(SearchSpace(model, {32, 64}, {2, 3, 4}, std::vector<SearchSpace::Block>(4, block)));
  const FeasibleSet set(costs, Budget::parse({"parameters=..70%"}, costs), parse_deployable("hf-llama"));
  const TemporaryFolder folder;
  TextbookEvaluator evaluator;
  const auto found = TextbookSearch{.set = set, .algorithm = name, .evaluations = 500}.run(folder, evaluator);
  CHECK(found.size() == set.count().convert_to<std::size_t>());
  for (const Evaluation& evaluation : found) CHECK(set.contains(evaluation.subnet));
}

TEST_CASE("Algorithms are found by name", "[search][algorithms]") {
  CHECK(find_algorithm("random").name == "random");
  CHECK_THROWS_WITH(find_algorithm("evoluton"), Catch::Contains("evolution"));
}

}  // namespace elastiform
