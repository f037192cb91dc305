#include "search/run_search.hpp"

#include "search/feasible_set.hpp"
#include "tests/search/algorithms/textbook.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {

TEST_CASE("A search takes known scores from other searches as a memo, and they keep their ids", "[search]") {
  const CostModel costs = plain_costs(textbook_space());
  const FeasibleSet set(costs, Budget{});
  const TemporaryFolder folder;
  TextbookEvaluator evaluator;
  const TextbookSearch first{.set = set, .algorithm = "homogeneous", .evaluations = 48};
  const auto stored = first.run(folder, evaluator);
  REQUIRE(stored.size() == 48);
  CHECK(evaluator.evaluated == 48);

  const FeasibleSet tight(costs, Budget::parse({"parameters=..70%"}, costs));
  const auto second = TextbookSearch{.set = tight, .algorithm = "homogeneous", .evaluations = 1000}.run(folder, evaluator);
  std::size_t known = 0;
  for (const Evaluation& evaluation : second) {
    const auto same = std::ranges::find(stored, evaluation.subnet, &Evaluation::subnet);
    if (same == stored.end()) continue;
    ++known;
    CHECK(same->id == evaluation.id);
    CHECK(same->score.loss == evaluation.score.loss);
  }
  CHECK(known > 5);
  CHECK(evaluator.evaluated == 48 + second.size() - known);
  const ResultStore store(folder.path(), ResultStore::Mode::read, costs.space().hash(), "textbook = 1\n");
  CHECK(store.evaluations().size() == evaluator.evaluated);
  CHECK(store.searches().size() == 2);
  CHECK(store.rounds(first.plan().description.name()).size() == 3);  // 16 + 16 + 8
}

TEST_CASE("More evaluations continue a search", "[search]") {
  const CostModel costs = plain_costs(textbook_space());
  const FeasibleSet set(costs, Budget{});
  const TemporaryFolder folder;
  TextbookEvaluator evaluator;
  TextbookSearch search{.set = set, .algorithm = "evolution", .evaluations = 32};
  const auto before = search.run(folder, evaluator);
  search.evaluations = 64;
  const auto after = search.run(folder, evaluator);
  REQUIRE(after.size() == 64);
  for (std::size_t i = 0; i < before.size(); ++i) CHECK(after[i].subnet == before[i].subnet);
  CHECK(evaluator.evaluated == 64);
  search.evaluations = 16;  // fewer than there are: nothing happens
  CHECK(search.run(folder, evaluator).size() == 64);
}

TEST_CASE("Continuing at a number that is no whole round equals asking for the total at once", "[search]") {
  const CostModel costs = plain_costs(textbook_space());
  const FeasibleSet set(costs, Budget{});
  for (const char* algorithm : {"random", "evolution"}) {
    const TemporaryFolder parts, whole;
    TextbookEvaluator evaluator;
    TextbookSearch search{.set = set, .algorithm = algorithm, .evaluations = 20};
    search.run(parts, evaluator);
    search.evaluations = 40;
    const auto continued = search.run(parts, evaluator), straight = search.run(whole, evaluator);
    REQUIRE(continued.size() == straight.size());
    CHECK(continued.size() >= 40);
    for (std::size_t i = 0; i < continued.size(); ++i) CHECK(continued[i].subnet == straight[i].subnet);
  }
}

}  // namespace elastiform
