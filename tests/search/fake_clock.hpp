#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "search/latency_profile.hpp"
#include "tests/search/small_spaces.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {

/// Parts take what these functions say, and whole networks what `whole` makes of their sum, times a factor that depends on how many passes
/// came before.
struct FakeClock final : InferenceClock {
  std::function<double(int embed, int heads)> attention = [](int embed, int heads) { return 0.01 + 0.001 * embed * heads; };
  std::function<double(int embed, int ffn)> feed_forward = [](int embed, int ffn) { return 0.02 + 0.0001 * embed * ffn; };
  std::function<double(double sum)> whole = [](double sum) { return sum; };
  std::function<double(int pass)> factor = [](int) { return 1.0; };
  std::vector<Subnet> visits;
  int passes = 0;

  PassTimes exact(const Subnet& subnet) const {
    PassTimes times;
    times.embedding = 0.001 * subnet.embed;
    times.head = 0.003 * subnet.embed;
    for (const BlockGenes& genes : subnet.blocks) {
      times.attention.push_back(genes.heads > 0 ? attention(subnet.embed, genes.heads) : 0);
      times.feed_forward.push_back(genes.ffn > 0 ? feed_forward(subnet.embed, genes.ffn) : 0);
    }
    times.whole = times.embedding + times.head;
    for (const double part : times.attention) times.whole += part;
    for (const double part : times.feed_forward) times.whole += part;
    times.whole = whole(times.whole);
    return times;
  }
  std::vector<PassTimes> time(const Subnet& subnet, int count, Timed timed) override {
    visits.push_back(subnet);
    std::vector<PassTimes> all;
    for (int i = 0; i < count; ++i) {
      PassTimes times = exact(subnet);
      const double by = factor(passes++);
      for (double* part : {&times.whole, &times.embedding, &times.head}) *part *= by;
      for (double& part : times.attention) part *= by;
      for (double& part : times.feed_forward) part *= by;
      // What was not asked for is in no table: a machine's clock has none of it.
      if (timed == Timed::parts) times.whole = NAN;
      else times.embedding = times.head = NAN, times.attention.clear(), times.feed_forward.clear();
      all.push_back(std::move(times));
    }
    return all;
  }
};

inline LatencyTable measured(const CostModel& costs, FakeClock& clock,
                             const ProfilePlan& plan = {.rounds = 4, .passes = 3, .networks = 12, .seed = 1}) {
  auto table = measure_table(costs, clock, plan, [](std::int64_t, std::int64_t) { return true; });
  REQUIRE(table.has_value());
  table->source = "a test";
  table->machine = {.processor = "none", .isa = "none", .cores = 1};
  table->deploy.context = costs.space().model().context;
  return *table;
}

inline CostModel with_latency(const SearchSpace& space, const LatencyTable& table) {
  CostModel costs = plain_costs(space);
  costs.predict_latency(latency_lines(table, space));
  return costs;
}

/// A cache that holds the first 0.2 ms of parts from one inference to the next, for half of their time.
inline double cached(double sum) { return sum - std::min(sum, 0.2) / 2; }

}  // namespace elastiform
