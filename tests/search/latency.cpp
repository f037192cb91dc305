// Tables of latencies and what searches make of them, with a clock that tells no time.
#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "kernels/errors.hpp"
#include "search/feasible_set.hpp"
#include "search/latency_file.hpp"
#include "search/latency_profile.hpp"
#include "tests/search/fake_clock.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

// Steps of tiles, as products have them.
double steps(double value, double tile) { return std::ceil(value / tile); }

}  // namespace

TEST_CASE("Quantiles are nearest ranks, the median of an even number is the mean of two", "[search][latency]") {
  CHECK(quantiles_of({3}) == Milliseconds{.median = 3, .low = 3, .high = 3});
  CHECK(quantiles_of({4, 1}) == Milliseconds{.median = 2.5, .low = 1, .high = 4});
  std::vector<double> hundred;
  for (int i = 100; i > 0; --i) hundred.push_back(i);
  CHECK(quantiles_of(hundred) == Milliseconds{.median = 50.5, .low = 10, .high = 90});
}

TEST_CASE("Subnets are timed in turn, round after round", "[search][latency]") {
  const std::vector<Subnet> all = every_subnet(random_space(8));
  const std::vector<Subnet> two{all.front(), all.back()};
  FakeClock clock;
  // The machine is busy for one visit of five, of the first subnet alone: the median does not see it, the mean would.
  clock.factor = [](int pass) { return pass / 3 == 4 ? 100.0 : 1.0; };
  const std::vector<Milliseconds> times = time_in_turn(clock, two, 5, 3);
  REQUIRE(clock.visits.size() == 10);
  for (std::size_t i = 0; i < clock.visits.size(); ++i) CHECK(clock.visits[i] == two[i % 2]);
  CHECK(times[0].median == clock.exact(two[0]).whole);
  CHECK(times[0].high == 100 * clock.exact(two[0]).whole);
  CHECK(times[1].high == clock.exact(two[1]).whole);
}

TEST_CASE("A measured table has every shape of its space and adds up", "[search][latency]") {
  const auto number = static_cast<std::uint64_t>(GENERATE(range(0, 20)));
  const SearchSpace space = random_space(number);
  const CostModel costs = plain_costs(space);
  CAPTURE(number, space.text());
  for (const int embed : space.embed())
    for (const Subnet& carrier : carriers_of(space, embed)) space.check(carrier, "carriers");
  FakeClock clock;
  const LatencyTable table = measured(costs, clock);
  REQUIRE(table.missing(space) == "");
  CHECK(table.noise_worst == 0);
  CHECK(table.networks.size() == std::min<std::size_t>(12, every_subnet(space).size() - table.calibration.size()));
  const LatencyModel lines = latency_lines(table, space);
  CHECK(lines.guard == kLeastGuard);
  const std::vector<Subnet> all = every_subnet(space);
  const std::vector<double> predicted = table.predictions(all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const double exact = clock.exact(all[i]).whole;
    CHECK(predicted[i] == Approx(exact).epsilon(1e-12));
    CHECK(line_of(lines, all[i]) == Approx(exact).epsilon(1e-6));  // picoseconds
  }
}

TEST_CASE("A busy machine moves neither medians nor the noise floor while most passes are undisturbed", "[search][latency]") {
  const SearchSpace space = random_space(4);
  const CostModel costs = plain_costs(space);
  FakeClock clock;
  clock.factor = [](int pass) { return pass % 4 == 1 ? 7.0 : 1.0; };
  const LatencyTable table = measured(costs, clock, {.rounds = 8, .passes = 5, .networks = 5, .seed = 0});
  for (const Subnet& subnet : every_subnet(space)) CHECK(table.sum_of(subnet) == Approx(clock.exact(subnet).whole).epsilon(1e-12));
  CHECK(table.noise_worst < 1e-12);
  // Two machines in one measurement: the halves differ, and the noise floor says so.
  FakeClock drifting;
  ProfilePlan plan{.rounds = 4, .passes = 2, .networks = 5, .seed = 0};
  measure_table(costs, drifting, plan, [](std::int64_t, std::int64_t) { return true; });
  const int half = drifting.passes / 2;
  drifting.passes = 0;
  drifting.factor = [half](int pass) { return pass < half ? 1.0 : 1.25; };
  const auto drifted = measure_table(costs, drifting, plan, [](std::int64_t, std::int64_t) { return true; });
  CHECK(drifted->noise_mean == Approx(0.2).epsilon(1e-9));
}

TEST_CASE("A measurement that is told to stop gives no table", "[search][latency]") {
  FakeClock clock;
  int told = 0;
  CHECK(!measure_table(plain_costs(random_space(8)), clock, {}, [&](std::int64_t, std::int64_t) { return ++told < 3; }));
  CHECK(clock.visits.size() == 3);
}

TEST_CASE("A table that misses a shape says which", "[search][latency]") {
  const SearchSpace space = random_space(8);
  FakeClock clock;
  LatencyTable table = measured(plain_costs(space), clock);
  const LatencyTable::Attention gone = table.attentions.back();
  table.attentions.pop_back();
  CHECK_THAT(table.missing(space), Contains("1 shapes without a row, the first embed " + std::to_string(gone.embed) + ", heads " +
                                            std::to_string(gone.heads) + ", groups " + std::to_string(gone.groups)));
  table.frames.clear();
  CHECK_THAT(table.missing(space), Contains("the first embed " + std::to_string(space.embed().front())));
}

TEST_CASE("Of a table without networks the guard band covers what lines miss, so every member is inside by the table",
          "[search][latency]") {
  const auto number = static_cast<std::uint64_t>(GENERATE(range(0, 12)));
  const SearchSpace space = random_space(number);
  FakeClock clock;
  clock.attention = [](int embed, int heads) { return 0.005 * steps(embed, 16) * steps(heads * 8, 32) + 0.02; };
  clock.feed_forward = [](int embed, int ffn) { return 0.004 * steps(embed, 16) * steps(ffn, 48); };
  if (number % 2 == 0) clock.whole = cached;
  LatencyTable table = measured(plain_costs(space), clock);
  table.networks.clear();
  const CostModel costs = with_latency(space, table);
  CAPTURE(number, space.text(), costs.latency()->guard);
  for (const int percent : {30, 60, 80, 100}) {
    const Budget budget = Budget::parse({"latency=.." + std::to_string(percent) + "%"}, costs);
    const FeasibleSet set(costs, budget);
    std::vector<Subnet> members;
    for (BigInt i = 0; i < set.count(); ++i) members.push_back(set.unrank(i));
    for (const double predicted : table.predictions(members))
      CHECK(predicted * 1e9 <= static_cast<double>(budget.limits().front().high) + 1);
  }
}

TEST_CASE("The guard band of measured networks is the 95 % quantile of what predictions miss", "[search][latency]") {
  const SearchSpace space = random_space(8);
  FakeClock clock;
  LatencyTable table = measured(plain_costs(space), clock);
  const LatencyTable::Network one = table.networks.front();
  table.networks.clear(), table.calibration.clear();
  const double exact = clock.exact(one.subnet).whole;
  for (int i = 1; i <= 40; ++i) {
    const double ms = exact * (1 + 0.005 * i);
    table.networks.push_back({.subnet = one.subnet, .time = {.median = ms, .low = ms, .high = ms}});
  }
  CHECK(latency_lines(table, space).guard == Approx(0.005 * 38).epsilon(1e-4));  // rank 38 of 40
  const PredictionError error = error_of({1, 2}, {2, 2});
  CHECK(error.mean == 0.25);
  CHECK(error.worst == 0.5);
  CHECK(error.under == 1);
}

TEST_CASE("Tables whose sums would overflow are refused in one line", "[search][latency]") {
  const SearchSpace space = random_space(8);
  FakeClock clock;
  const LatencyTable table = measured(plain_costs(space), clock);
  const auto refused = [&](const LatencyTable& wrong, const std::string& says) {
    check_input_error([&] { latency_lines(wrong, space); }, says);
  };
  LatencyTable far = table;
  for (auto& network : far.networks) network.time.median *= 1000;
  refused(far, "within 100 times");
  LatencyTable endless = table;
  endless.networks.clear(), endless.calibration.clear();
  for (auto& row : endless.attentions) row.time.median = 4e9;  // beyond what a file may say
  for (auto& row : endless.feed_forwards) row.time.median = 4e9;
  refused(endless, "2^62 ps");
  for (auto& row : endless.attentions) row.time.median = 1e6;
  for (auto& row : endless.feed_forwards) row.time.median = 1e6;
  CHECK(CostModel(with_latency(space, endless)).of(space.largest()).latency_bound > 0);
}

TEST_CASE("Feasible sets count latency beside other costs exactly", "[search][latency]") {
  const auto number = static_cast<std::uint64_t>(GENERATE(range(0, 20)));
  const SearchSpace space = random_space(number);
  FakeClock clock;
  clock.feed_forward = [](int embed, int ffn) { return 0.004 * steps(embed, 16) * steps(ffn, 48); };
  if (number % 2 == 0) clock.whole = cached;
  const CostModel costs = with_latency(space, measured(plain_costs(space), clock));
  const std::vector<Subnet> all = every_subnet(space);
  RandomStream random(number, Purpose::test, 5);
  const auto some = [&](Cost cost) { return amount_text(cost, value_of(costs.of(all[random.below(all.size())]), cost)); };
  for (int kind = 0; kind < 4; ++kind) {
    std::vector<std::string> texts{"latency=.." + some(Cost::latency)};
    if (kind == 1) texts = {"latency=" + some(Cost::latency) + ".."};
    if (kind >= 2) texts.push_back("parameters=.." + some(Cost::parameters));
    if (kind == 3) texts.push_back("macs=" + some(Cost::macs) + "..");
    const Budget budget = Budget::parse(texts, costs);
    CAPTURE(number, space.text(), budget.text());
    const FeasibleSet set(costs, budget);
    std::vector<Subnet> members;
    for (const Subnet& subnet : all)
      if (budget.admits(costs.of(subnet))) members.push_back(subnet);
    REQUIRE(set.count() == members.size());
    bool equal = true;
    for (std::size_t i = 0; i < members.size(); ++i) equal = equal && set.unrank(i) == members[i] && set.rank(members[i]) == i;
    CHECK(equal);
  }
  const Budget nothing = Budget::parse({"latency=..1ns"}, costs);
  std::int64_t least = INT64_MAX;
  for (const Subnet& subnet : all) least = std::min(least, costs.of(subnet).latency_bound);
  CHECK_THAT(FeasibleSet(costs, nothing).why_empty(), Contains("nearest latency: " + amount_text(Cost::latency, least)));
}

TEST_CASE("Latency budgets have units, echo exactly and need a table", "[search][latency]") {
  const SearchSpace space = random_space(8);
  FakeClock clock;
  const CostModel costs = with_latency(space, measured(plain_costs(space), clock));
  const auto text = [&](const std::string& one) { return Budget::parse({one}, costs).text(); };
  CHECK(text("latency=..5ms") == "latency=..5ms");
  CHECK(text("latency=250us..0.0015s") == "latency=0.25ms..1.5ms");
  CHECK(text("latency<=1.000000001ms") == "latency=..1.000000001ms");
  CHECK(text("latency=..60%,parameters=..2M") ==
        "parameters=..2000000,latency=.." + amount_text(Cost::latency, costs.of(space.largest()).latency * 60 / 100));
  for (const char* one : {"latency=..5", "latency=..5M", "latency=..5 m", "latency=..5MS", "latency=", "latency"}) {
    CAPTURE(one);
    CHECK_THROWS_AS(Budget::parse({one}, costs), InputError);
  }
  CHECK_THROWS_WITH(Budget::parse({"latency=..5"}, costs), Contains("ns, us, ms, s or %"));
  CHECK_THROWS_WITH(Budget::parse({"parameters=..5ms"}, costs), Contains("K, M, G"));
  CHECK_THROWS_WITH(Budget::parse({"latncy=..5ms"}, costs), Contains("nearest latency"));
  CHECK_THROWS_WITH(Budget::parse({"latency=..5ms"}, plain_costs(space)), Contains("elastiform profile"));
  // Predictions are shown without the guard band, limits are compared with it.
  const Costs of = costs.of(space.middle());
  CHECK(of.latency_bound > of.latency);
  CHECK(static_cast<double>(of.latency_bound) == Approx(1.01 * static_cast<double>(of.latency)).epsilon(1e-3));
}

TEST_CASE("A table's file reads back as it was", "[search][latency]") {
  const SearchSpace space = random_space(3);
  FakeClock clock;
  clock.factor = [](int pass) { return 1 + 0.1 * (pass % 7); };
  LatencyTable table = measured(plain_costs(space), clock);
  table.imported = true;
  const LatencyTable read = parse_latency(latency_text(table), "t.json");
  CHECK(latency_text(read) == latency_text(table));
  CHECK(read.networks.front().time == table.networks.front().time);
  CHECK(read.label() == "imported: a test on none");
  CHECK(latency_lines(read, space).hash == latency_lines(table, space).hash);
  table.device = "cuda";
  table.machine.accelerator = "NVIDIA H100";
  CHECK(parse_latency(latency_text(table), "t.json").machine == table.machine);
  CHECK(table.machine.hash() != read.machine.hash());  // the GPU is part of what measured
  CHECK(table.label() == "imported: a test on none, NVIDIA H100");
}

TEST_CASE("The table that docs/latency.md shows is one", "[search][latency]") {
  const std::string page = content_of(ELASTIFORM_TEST_DATA "/../../docs/latency.md"), fence = "```json\n";
  const std::size_t begin = page.find(fence);
  REQUIRE(begin != std::string::npos);
  std::string example = page.substr(begin + fence.size(), page.find("```", begin + fence.size()) - begin - fence.size());
  CHECK(parse_latency(example, "docs/latency.md").source == "llama.cpp b4000, Q8_0");
  // What can only be timed whole has one half of the frame.
  const std::string half = "\"embedding_ms\": 0.002";
  REQUIRE(example.find(half) != std::string::npos);
  example.replace(example.find(half), half.size(), "\"embedding_ms\": 0");
  CHECK(parse_latency(example, "half").frames.front().embedding.median == 0);
  const std::string other = "\"head_ms\": 0.05";
  example.replace(example.find(other), other.size(), "\"head_ms\": 0");
  CHECK_THROWS_WITH(parse_latency(example, "neither"), Contains("more than 0 ms"));
}

TEST_CASE("Hostile tables are refused in one line", "[search][latency]") {
  const std::string good = R"({"format": "elastiform-latency", "version": 1, "source": "s",
    "deploy": {"dtype": "f32", "batch": 1, "context": 16, "phase": "decode", "threads": 1},
    "frame": [{"embed": 16, "embedding_ms": 1, "head_ms": 1}], "attention": [{"embed": 16, "heads": 2, "groups": 2, "ms": 1}],
    "ffn": [{"embed": 16, "ffn": 32, "ms": 1, "low_ms": 0.5, "high_ms": 2}], "networks": [{"subnet": "e16:h2f32", "ms": 4}],
    "calibration": [{"subnet": "e16:2xh2f32", "ms": 4}]})";
  REQUIRE(parse_latency(good, "t.json").feed_forwards.front().time.low == 0.5);
  const auto with = [&](const std::string& part, const std::string& instead) {
    std::string text = good;
    const std::size_t at = text.find(part);
    REQUIRE(at != std::string::npos);
    return text.replace(at, part.size(), instead);
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "JSON"},
      {"[1, 2]", "expected an object"},
      {good.substr(0, 200), "JSON in UTF-8"},
      {std::string(20, '[') + std::string(20, ']'), "deeper nesting"},
      {with("elastiform-latency", "other"), "format: expected elastiform-latency, found other"},
      {with("\"version\": 1", "\"version\": 3"), "newer"},
      {with("\"version\": 1", "\"version\": -1"), "version"},
      {with("\"version\": 1", "\"version\": 18446744073709551615"), "version"},
      {with("\"source\"", "\"sorce\""), "source"},
      {with("\"source\": \"s\"", "\"source\": \"\\u001b[2J\""), "printable"},
      {with("\"source\": \"s\"", "\"source\": \"\""), "a text of 1"},
      {with("\"source\": \"s\"", "\"source\": \"" + std::string(300, 'x') + "\""), "a text of 1 to 200"},
      {with("\"source\": \"s\"", "\"source\": \"s\", \"sauce\": 1"), "nearest source"},
      {with("\"source\": \"s\"", "\"source\": \"s\", \"source\": \"t\""), "twice"},
      {with("\"f32\"", "\"f23\""), "nearest f32"},
      {with("\"decode\"", "\"decoding\""), "nearest decode"},
      {with("\"batch\": 1", "\"batch\": 0"), "batch"},
      {with("\"frame\": [", "\"frame\": [7, "), "frame[0]: expected an object"},
      {with("\"embed\": 16, \"emb", "\"embed\": 1.5, \"emb"), "an integer"},
      {with("\"embed\": 16, \"heads\"", "\"embed\": -16, \"heads\""), "from 1 to"},
      {with("\"groups\": 2, \"ms\": 1", "\"groups\": 2, \"ms\": -1"), "attention[0]: ms"},
      {with("\"groups\": 2, \"ms\": 1", "\"groups\": 2, \"ms\": 0"), "above 0, found 0"},
      {with("\"groups\": 2, \"ms\": 1", "\"groups\": 2, \"ms\": 1e300"), "0.0 to 1000000.0"},
      {with("\"groups\": 2, \"ms\": 1", "\"groups\": 2, \"ms\": 1e999"), "JSON"},
      {with("\"groups\": 2, \"ms\": 1", "\"groups\": 2, \"ms\": null"), "a number"},
      {with("\"groups\": 2, \"ms\": 1", "\"groups\": 2, \"mss\": 1"), "ms"},
      {with("\"low_ms\": 0.5", "\"low_ms\": 1.5"), "between low_ms and high_ms"},
      {with("\"ffn\": [", "\"ffn\": [{\"embed\": 16, \"ffn\": 32, \"ms\": 2}, "), "ffn[1]: expected every shape once"},
      {with("e16:h2f32", "e16"), "subnet e16"},
      {with("\"calibration\": [", "\"calibration\": [{\"subnet\": \"e16:2xh2f32\", \"ms\": 1}, "),
       "calibration[1]: expected every shape once"},
      {with("\"calibration\"", "\"calibrations\""), "nearest calibration"},
      {with("\"networks\": [", "\"networks\": {\"a\": 1}, \"extra\": ["), "a list"},
      {with("\"source\": \"s\"", "\"source\": \"s\", \"machine\": {\"processor\": \"p\", \"isa\": \"i\", \"cores\": 1, \"hash\": \"0\"}"),
       "which its other keys give"},
      {with("\"ffn\": [{\"embed\": 16, \"ffn\": 32, \"ms\": 1, \"low_ms\": 0.5, \"high_ms\": 2}],", ""), "ffn: expected a value"},
  };
  for (const auto& [text, says] : cases) {
    CAPTURE(text);
    check_input_error([&text = text] { parse_latency(text, "t.json"); }, says);
  }
}

}  // namespace elastiform
