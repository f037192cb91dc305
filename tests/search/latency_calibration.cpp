// Sums of parts, calibrated by whole networks.
#include <algorithm>
#include <vector>

#include "search/feasible_set.hpp"
#include "search/latency_profile.hpp"
#include "tests/search/fake_clock.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

bool holds(const std::vector<LatencyTable::Network>& networks, const Subnet& subnet) {
  return std::ranges::find(networks, subnet, &LatencyTable::Network::subnet) != networks.end();
}

}  // namespace

TEST_CASE("Sums are calibrated by whole networks, which caches make faster than their parts", "[search][latency]") {
  const auto number = static_cast<std::uint64_t>(GENERATE(range(0, 20)));
  const SearchSpace space = random_space(number);
  FakeClock clock;
  clock.whole = cached;
  const LatencyTable table = measured(plain_costs(space), clock);
  const LatencyModel lines = latency_lines(table, space);
  const std::vector<Subnet> all = every_subnet(space);
  std::vector<double> sums, by_lines, exact;
  for (const Subnet& subnet : all)
    sums.push_back(table.sum_of(subnet)), by_lines.push_back(line_of(lines, subnet)), exact.push_back(clock.exact(subnet).whole);
  CAPTURE(number, space.text());
  const double alone = error_of(sums, exact).worst, calibrated = error_of(table.predictions(all), exact).worst;
  CHECK(alone > 0.03);
  CHECK(calibrated < 0.1);  // a bend of the clock may lie between two knots
  CHECK(calibrated < alone);
  CHECK(error_of(by_lines, exact).worst < 0.1);
  CHECK(holds(table.calibration, space.largest()));
  CHECK(holds(table.calibration, space.smallest()));
  for (const LatencyTable::Network& network : table.networks) CHECK(!holds(table.calibration, network.subnet));
}

TEST_CASE("Knots: both ends as they are, between them each network or the middle of three", "[search][latency]") {
  const auto is = [](const std::vector<LatencyKnot>& knots, const std::vector<LatencyKnot>& wanted) {
    return std::ranges::equal(knots, wanted, [](const auto& a, const auto& b) { return a.sum == b.sum && a.whole == Approx(b.whole); });
  };
  CHECK(knots_through({}).empty());
  CHECK(is(knots_through({{4, 2}}), {{4, 2}}));
  CHECK(is(knots_through({{8, 8}, {2, 1}, {4, 3}}), {{2, 1}, {4, 3}, {8, 8}}));
  CHECK(is(knots_through({{2, 3}, {4, 2}, {4, 5}, {4, 4}}), {{2, 3}, {4, 5}}));  // one of a sum, and none below the one before
  // Eleven: of the nine between, three and three; 99 is disturbed.
  std::vector<LatencyKnot> many;
  for (int i = 1; i <= 11; ++i) many.push_back({1.0 * i, i == 6 ? 99.0 : 0.5 * i});
  CHECK(is(knots_through(many), {{1, 0.5}, {3, 1.5}, {6, 3}, {9, 4.5}, {11, 5.5}}));
  CHECK(whole_at({}, 3) == 3);
  const std::vector<LatencyKnot> two{{2, 1}, {4, 3}};
  CHECK(whole_at(two, 1) == 0.5);
  CHECK(whole_at(two, 3) == 2);
  CHECK(whole_at(two, 8) == 6);
  CHECK(most_apart(two, 0.1) == Approx(1.1 * 1.1 - 1));  // at 2 the slope 1 is twice what is proportional
  CHECK(most_apart({}, 0.1) == Approx(0.1));
}

TEST_CASE("A limit on a whole network's latency is one on its sum, exactly", "[search][latency]") {
  RandomStream random(1, Purpose::test, 0);
  const auto below = [&random](std::uint64_t n) { return static_cast<double>(random.below(n)); };
  for (int trial = 0; trial < 100; ++trial) {
    LatencyModel model;
    model.guard = 0.01 * below(20);
    // Small sums, and sums so great that bounds reach the end of what is counted.
    const double unit = trial % 2 == 0 ? 1 : 0x1p50;
    std::vector<LatencyKnot> networks;
    for (std::uint64_t count = random.below(5); count > 0; --count)
      networks.push_back({unit * (1 + below(4000)), std::max(1.0, unit * below(4000))});
    model.knots = knots_through(networks);
    const auto low = static_cast<std::int64_t>(unit * below(3000)), high = low + static_cast<std::int64_t>(unit * below(3000));
    const LatencyModel::Sums sums = model.sums_within(low, high);
    bool rises = true, exact = true;
    std::vector<std::int64_t> places{sums.least, sums.greatest};
    for (std::int64_t at = 0; at < 5000; ++at) places.push_back(at * static_cast<std::int64_t>(unit / 2 + 0.5));
    for (const std::int64_t place : places)
      for (const std::int64_t at : {place - 1, place, place + 1}) {
        if (at < 0 || at >= std::int64_t{1} << 62) continue;  // no sum of a network
        rises = rises && model.bound_of(at) <= model.bound_of(at + 1) && (at == 0 || model.whole_of(at) > 0);
        exact = exact && (at >= sums.least && at <= sums.greatest) == (model.bound_of(at) >= low && model.bound_of(at) <= high);
      }
    CAPTURE(trial, low, high, sums.least, sums.greatest);
    CHECK(rises);
    CHECK(exact);
  }
  const LatencyModel plain;
  CHECK(plain.sums_within(0, INT64_MAX).least == 0);
  CHECK(plain.sums_within(0, INT64_MAX).greatest == INT64_MAX);
  CHECK(plain.sums_within(INT64_MAX, INT64_MAX).least > std::int64_t{1} << 62);  // beyond every sum
}

TEST_CASE("The nearest latency outside a limit is near in time, not in sums", "[search][latency]") {
  const SearchSpace space = random_space(8);
  FakeClock clock;
  clock.whole = [](double sum) { return sum * sum; };  // steeper and steeper
  const CostModel costs = with_latency(space, measured(plain_costs(space), clock));
  std::vector<std::int64_t> bounds;
  for (const Subnet& subnet : every_subnet(space)) bounds.push_back(costs.of(subnet).latency_bound);
  std::ranges::sort(bounds);
  std::size_t gap = 0;  // the widest, in which no network is
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i)
    if (bounds[i + 1] - bounds[i] > bounds[gap + 1] - bounds[gap]) gap = i;
  REQUIRE(bounds[gap + 1] - bounds[gap] > 10);
  for (const int tenth : {2, 4, 6, 8}) {
    const std::int64_t at = bounds[gap] + (bounds[gap + 1] - bounds[gap]) * tenth / 10;
    const std::string limit = amount_text(Cost::latency, at);
    const FeasibleSet none(costs, Budget::parse({"latency=" + limit + ".." + limit}, costs));
    const std::int64_t nearest = at - bounds[gap] <= bounds[gap + 1] - at ? bounds[gap] : bounds[gap + 1];
    CHECK_THAT(none.why_empty(), Contains("nearest latency: " + amount_text(Cost::latency, nearest)));
  }
}

TEST_CASE("A calibration that has nothing to do with its rows is refused in one line", "[search][latency]") {
  const SearchSpace space = random_space(4);
  FakeClock clock;
  const LatencyTable table = measured(plain_costs(space), clock);
  for (const double factor : {1e-3, 1e3}) {
    LatencyTable wrong = table;
    wrong.calibration.front().time.median *= factor;
    check_input_error([&] { latency_lines(wrong, space); }, "within 100 times the sum of their parts");
  }
  // Whole networks may take so much more than their parts that only they overflow.
  LatencyTable endless = table;
  endless.networks.clear();
  for (auto& row : endless.attentions) row.time.median = 2e7;
  for (auto& network : endless.calibration) network.time.median = endless.sum_of(network.subnet) * 90;
  check_input_error([&] { latency_lines(endless, space); }, "2^62 ps");
}

}  // namespace elastiform
