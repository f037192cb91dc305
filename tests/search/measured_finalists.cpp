// The answers of a search under a latency budget, with a clock that says what the test wants.
#include "search/measured_finalists.hpp"

#include <cmath>
#include <map>

#include "search/feasible_set.hpp"
#include "tests/search/small_spaces.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

struct ListedClock final : InferenceClock {
  std::map<Subnet, double> milliseconds;
  std::map<Subnet, int> visits;
  std::vector<PassTimes> time(const Subnet& subnet, int passes, Timed timed) override {
    CHECK(timed == Timed::whole);  // no waiting between parts where answers are judged
    ++visits[subnet];
    PassTimes times;
    times.whole = milliseconds.at(subnet);
    return std::vector<PassTimes>(static_cast<std::size_t>(passes), times);
  }
};

/// Evaluations of `all`, worse and cheaper from one to the next, so that all of them are on the front.
struct Searched {
  TemporaryFolder folder;
  ResultStore store{folder.path(), ResultStore::Mode::write, "space", "recipe = 1\n"};
  std::vector<Evaluation> found, rivals;
  ListedClock clock;

  explicit Searched(std::size_t count, bool all_on_front) {
    const std::vector<Subnet> all = every_subnet(random_space(4));
    REQUIRE(all.size() >= count);
    for (std::size_t i = 0; i < count; ++i) {
      Evaluation evaluation;
      evaluation.subnet = all[i];
      evaluation.weights_hash = "w";
      evaluation.split = "search";
      evaluation.blocks = "all";
      evaluation.score.loss = 1 + 0.5 * static_cast<double>(i);
      evaluation.costs.parameters = 1000 + (all_on_front ? -1 : 1) * static_cast<std::int64_t>(i);
      found.push_back(evaluation);
      clock.milliseconds[all[i]] = 1;
    }
    SearchDescription description;
    description.algorithm = "random";
    store.append(description, found);
    rivals.push_back(found.back());
  }
  MeasuredFinalists measure(double most, std::size_t best = 0) {
    const Limit limit{.cost = Cost::latency, .low = 0, .high = static_cast<std::int64_t>(most * 1e9)};
    return measure_finalists(limit, Cost::parameters, best, found, rivals, clock, store);
  }
};

}  // namespace

TEST_CASE("The best, the rival and the front are measured, and nobody else", "[search][latency]") {
  Searched dominated(6, false);
  const MeasuredFinalists finalists = dominated.measure(2);
  CHECK(finalists.measured);
  CHECK(finalists.inside == std::set<std::int64_t>{1, 6});  // the front is the best alone; 6 is the best rival
  CHECK(dominated.clock.visits.size() == 2);
  CHECK(dominated.store.find(1)->latency_ms == 1);
  CHECK(std::isnan(dominated.store.find(2)->latency_ms));
  CHECK(dominated.found.front().latency_ms == 1);
  CHECK(dominated.rivals.front().latency_ms == 1);
  CHECK(dominated.measure(2, 3).inside == std::set<std::int64_t>{1, 2, 3, 6});
  CHECK(dominated.clock.visits.at(dominated.found.front().subnet) == 10);  // rounds; what is known is not measured again

  Searched front(6, true);
  CHECK(front.measure(2).inside.size() == 6);
}

TEST_CASE("Who is outside is left out, and who follows is measured", "[search][latency]") {
  Searched searched(6, false);
  for (const std::size_t slow : {0, 1, 3}) searched.clock.milliseconds[searched.found[slow].subnet] = 2.5;
  const MeasuredFinalists finalists = searched.measure(2);
  CHECK(finalists.outside == std::set<std::int64_t>{1, 2});
  CHECK(finalists.inside == std::set<std::int64_t>{3, 6});
  CHECK(!finalists.admits(searched.found[0]));
  CHECK(finalists.admits(searched.found[2]));
  CHECK(!finalists.admits(searched.found[4]));  // never measured
  CHECK(searched.measure(2, 3).inside == std::set<std::int64_t>{3, 5, 6});

  Searched none(6, true);
  for (auto& [subnet, ms] : none.clock.milliseconds) ms = 9;
  const MeasuredFinalists nobody = none.measure(2);
  CHECK(nobody.inside.empty());
  CHECK(nobody.outside.size() == 6);
}

TEST_CASE("Measuring stops between visits when it is told to, and keeps nothing half", "[search][latency]") {
  Searched searched(6, true);
  int asked = 0;
  const Limit limit{.cost = Cost::latency, .low = 0, .high = 2'000'000'000};
  CHECK_THROWS_AS(measure_finalists(limit, Cost::parameters, 0, searched.found, searched.rivals, searched.clock, searched.store,
                                    [&] { return ++asked > 4; }),
                  Interrupted);
  CHECK(searched.clock.visits.size() == 4);
  for (int id = 1; id <= 6; ++id) CHECK(std::isnan(searched.store.find(id)->latency_ms));
}

TEST_CASE("Both ends of a limit on latency are included", "[search][latency]") {
  const Limit limit{.cost = Cost::latency, .low = 1'000'000'000, .high = 2'000'000'000};
  CHECK(within(limit, 1));
  CHECK(within(limit, 2));
  CHECK(!within(limit, 0.999));
  CHECK(!within(limit, 2.001));
}

TEST_CASE("At most so many networks are measured", "[search][latency]") {
  Searched searched(kMostMeasured + 20, false);
  for (auto& [subnet, ms] : searched.clock.milliseconds) ms = 9;
  const MeasuredFinalists finalists = searched.measure(2);
  CHECK(finalists.outside.size() == kMostMeasured);
  CHECK(finalists.unmeasured == 1);  // the best that is left, which is the front
  CHECK(Searched(6, true).measure(2).unmeasured == 0);
  CHECK(finalists.inside.empty());
}

}  // namespace elastiform
