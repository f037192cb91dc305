#include "search/pareto_front.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/random.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

Evaluation point(std::int64_t id, std::int64_t macs, double loss) {
  Evaluation evaluation;
  evaluation.id = id;
  evaluation.costs.macs = macs;
  evaluation.score.loss = loss;
  return evaluation;
}

}  // namespace

TEST_CASE("The front is what pairwise comparison leaves, whatever the order", "[search]") {
  RandomStream random(3, Purpose::test);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<Evaluation> all;
    for (int i = 1; i <= 30; ++i)
      all.push_back(point(i, static_cast<std::int64_t>(random.below(12)), static_cast<double>(random.below(12))));
    for (std::size_t i = all.size(); i-- > 1;) std::swap(all[i], all[random.below(i + 1)]);
    ParetoFront front(Cost::macs);
    for (const Evaluation& one : all) {
      const bool joined = front.add(one);
      const bool member = std::ranges::any_of(front.members(), [&](const Evaluation& m) { return m.id == one.id; });
      CHECK(joined == member);
    }
    std::vector<std::int64_t> expected, found;
    for (const Evaluation& a : all) {
      const bool beaten = std::ranges::any_of(all, [&](const Evaluation& b) {
        if (b.id == a.id || b.costs.macs > a.costs.macs || b.score.loss > a.score.loss) return false;
        return b.costs.macs < a.costs.macs || b.score.loss < a.score.loss || b.id < a.id;
      });
      if (!beaten) expected.push_back(a.id);
    }
    for (const Evaluation& member : front.members()) found.push_back(member.id);
    CHECK(std::ranges::is_sorted(front.members(), {}, [](const Evaluation& m) { return m.costs.macs; }));
    std::ranges::sort(expected);
    std::ranges::sort(found);
    CHECK(found == expected);
  }
}

TEST_CASE("A loss that is no number is on no front", "[search]") {
  ParetoFront front(Cost::macs);
  CHECK_FALSE(front.add(point(1, 1, NAN)));
  CHECK(front.add(point(2, 5, 1.0)));
  CHECK_FALSE(front.add(point(3, 1, INFINITY)));
  CHECK(front.members().size() == 1);
}

TEST_CASE("A front against latency goes by the measured median where there is one", "[search][latency]") {
  const auto timed = [](std::int64_t id, double predicted, double measured, double loss) {
    Evaluation evaluation = point(id, 1, loss);
    evaluation.costs.latency_bound = static_cast<std::int64_t>(predicted * 1e9);
    evaluation.latency_ms = measured;
    return evaluation;
  };
  ParetoFront front(Cost::latency);
  front.add(timed(1, 1, 3, 1.0));  // predicted to dominate 2, measured not to
  CHECK(front.add(timed(2, 2, 1.5, 1.5)));
  CHECK_FALSE(front.add(timed(3, 1.6, NAN, 1.6)));  // a prediction beside medians
  CHECK_FALSE(front.add(timed(4, 1, 5, 1.0)));
  REQUIRE(front.members().size() == 2);
  CHECK(front.members()[0].id == 2);
  CHECK(front.members()[1].id == 1);
  CHECK(cost_of(front.members()[0], Cost::latency) == 1'500'000'000);
  CHECK(cost_of(front.members()[0], Cost::macs) == 1);
}

}  // namespace elastiform
