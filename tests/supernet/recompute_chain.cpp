#include "supernet/recompute_chain.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/random.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/vectors.hpp"

namespace elastiform {
namespace {

using Links = std::vector<std::vector<LinkOption>>;

std::int64_t peak_of(const Links& links, const std::vector<int>& options, std::int64_t end_work) {
  std::int64_t stored = 0, peak = 0;
  for (std::size_t i = 0; i < links.size(); ++i) {
    const LinkOption& option = links[i][static_cast<std::size_t>(options[i])];
    peak = std::max(peak, stored + option.work);
    stored += option.stored;
  }
  return std::max(peak, stored + end_work);
}

/// Every plan in order of options; the first of least (cost, peak) inside the limit.
std::optional<RecomputeChain::Plan> brute_force(const Links& links, std::int64_t end_work, std::int64_t limit) {
  std::optional<RecomputeChain::Plan> best;
  std::vector<int> options(links.size(), 0);
  for (;;) {
    RecomputeChain::Plan plan{options, peak_of(links, options, end_work), 0};
    for (std::size_t i = 0; i < links.size(); ++i) plan.cost += links[i][static_cast<std::size_t>(options[i])].cost;
    if (plan.peak <= limit && (!best || std::pair(plan.cost, plan.peak) < std::pair(best->cost, best->peak))) best = plan;
    std::size_t last = links.size();
    while (last-- > 0) {
      if (++options[last] < static_cast<int>(links[last].size())) break;
      options[last] = 0;
    }
    if (last == static_cast<std::size_t>(-1)) return best;
  }
}

Links random_links(RandomStream& random) {
  Links links(1 + random.below(6));
  for (auto& options : links) {
    options.resize(1 + random.below(4));
    for (LinkOption& option : options) {
      option.stored = static_cast<std::int64_t>(random.below(20));
      option.work = option.stored + static_cast<std::int64_t>(random.below(30));
      option.cost = static_cast<std::int64_t>(random.below(8));  // few values: ties are common
    }
  }
  return links;
}

}  // namespace

TEST_CASE("plans of random chains are brute force's, ties included", "[supernet][memory]") {
  RandomStream random(1, Purpose::test);
  int infeasible = 0, recomputing = 0;
  for (int i = 0; i < 300; ++i) {
    const Links links = random_links(random);
    const std::int64_t end_work = static_cast<std::int64_t>(random.below(30));
    const RecomputeChain chain(links, end_work);
    for (std::int64_t limit = 0; limit < 150; limit += 7) {
      const auto expected = brute_force(links, end_work, limit), found = chain.solve(limit);
      CAPTURE(i, limit);
      REQUIRE(found == expected);
      REQUIRE(found.has_value() == (limit >= chain.least_peak()));
      infeasible += found ? 0 : 1;
      recomputing += found && found->options != std::vector<int>(links.size(), 0) ? 1 : 0;
      if (!found) continue;
      // The other way round: no plan of at most this cost needs less.
      for (const std::int64_t cost : {found->cost, found->cost + 1, found->cost + 13}) {
        const std::int64_t least = chain.least_peak(cost);
        REQUIRE(least <= found->peak);
        REQUIRE(brute_force(links, end_work, least)->cost <= cost);
        const auto below = brute_force(links, end_work, least - 1);
        REQUIRE((!below || below->cost > cost));
      }
    }
  }
  CHECK(infeasible > 100);
  CHECK(recomputing > 1000);
}

TEST_CASE("plans agree with the vector remat_plan", "[supernet][memory][vectors]") {
  const auto& entry = vector("remat_plan");
  Links links;
  for (std::size_t i = 0; i < entry["full"].size(); ++i) {
    const std::int64_t full = entry["full"][i], checkpoint = entry["ckpt"][i];
    const std::int64_t time = std::llround(2 * entry["fwd_time"][i].get<double>());  // halves of a unit
    links.push_back({{full, full, 0}, {checkpoint, checkpoint + full, time}});
  }
  const std::int64_t base = entry["base"];
  const RecomputeChain chain(links, 0);
  for (const auto& expected : entry["expected"]) {
    const auto plan = chain.solve(expected["budget"].get<std::int64_t>() - base);
    CAPTURE(expected.dump());
    REQUIRE(plan.has_value() == expected["feasible"].get<bool>());
    if (!plan) continue;
    CHECK(plan->options == expected["recompute"].get<std::vector<int>>());
    CHECK(plan->peak + base == expected["peak"].get<std::int64_t>());
    CHECK(static_cast<double>(plan->cost) / 2 == expected["extra_time"].get<double>());
  }
}

TEST_CASE("segments of a chain need what the vector remat_sqrt says", "[supernet][memory][vectors]") {
  for (const auto& expected : vector("remat_sqrt")["expected"]) {
    const std::int64_t n = expected["n"];
    std::int64_t least = n + 1, segments = 0;
    for (std::int64_t k = 1; k <= n; ++k) {  // k segments store their first layer's input and run again one at a time
      const LinkOption segment{1, 1 + (n + k - 1) / k, 0};
      const auto plan = RecomputeChain(Links(static_cast<std::size_t>(k), {segment}), 0).solve(1000);
      if (plan->peak < least) least = plan->peak, segments = k;
    }
    CHECK(least == expected["min_live"].get<std::int64_t>());
    CHECK(segments == expected["segments"].get<std::int64_t>());
  }
}

TEST_CASE("a chain with more plans than the solver keeps still finds the least peak, and good plans", "[supernet][memory]") {
  RandomStream random(2, Purpose::test);
  Links links(96);
  for (auto& options : links)
    for (int o = 0; o < 12; ++o) {
      const auto stored = static_cast<std::int64_t>(1000000 + random.below(9000000));
      options.push_back(
          {stored, stored + 10000000, static_cast<std::int64_t>((11000000 - stored) / 2 + static_cast<std::int64_t>(random.below(1000)))});
    }
  const RecomputeChain chain(links, 0);
  std::int64_t stored = 0, least = 0;
  for (const auto& options : links) {
    const LinkOption& best =
        *std::min_element(options.begin(), options.end(), [](const LinkOption& a, const LinkOption& b) { return a.stored < b.stored; });
    least = std::max(least, stored + best.work);
    stored += best.stored;
  }
  CHECK(chain.least_peak() == least);
  CHECK_FALSE(chain.solve(least - 1));
  std::int64_t before = std::numeric_limits<std::int64_t>::max();
  for (const double share : {1.0, 1.2, 1.5, 2.0, 3.0}) {
    const auto limit = static_cast<std::int64_t>(share * static_cast<double>(least));
    const auto plan = chain.solve(limit);
    REQUIRE(plan);
    CHECK(plan->peak <= limit);
    CHECK(peak_of(links, plan->options, 0) == plan->peak);
    CHECK(plan->cost < before);
    before = plan->cost;
  }
}

}  // namespace elastiform
