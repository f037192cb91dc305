#pragma once

#include <cstdint>
#include <functional>

#include "search/latency_table.hpp"

namespace elastiform {

struct ProfilePlan {
  int rounds = 20;    // visits of every network, an even number: the noise floor is between their halves
  int passes = 5;     // inferences a visit
  int networks = 40;  // random subnets measured whole, to judge the table by; at most all of the space
  std::uint64_t seed = 0;
};

/// Subnets whose blocks have every head count and FFN width of the space at `embed` between them, of the least and of the greatest depth in
/// turn: parts are measured where they run, behind one another, since what the caches hold then decides half of their time.
std::vector<Subnet> carriers_of(const SearchSpace& space, int embed);

/// Subnets of the least, of the middle and of the greatest choice in every block, of the least and of the greatest depth, at no more than
/// kCalibrationWidths embed widths: what sums are calibrated by.
std::vector<Subnet> calibration_of(const SearchSpace& space);
constexpr std::size_t kCalibrationWidths = 8;

/// Measures the whole table (rows of every shape of the space), its calibration and plan.networks other subnets drawn by the balanced law
/// (of a small space fewer, maybe none), all in turn, round after round. Fills frames, attentions, feed_forwards, calibration, networks,
/// noise and samples. `progress(done, total)` after every visit; returning false ends it: nullopt.
std::optional<LatencyTable> measure_table(const CostModel& costs, InferenceClock& clock, const ProfilePlan& plan,
                                          const std::function<bool(std::int64_t, std::int64_t)>& progress);

}  // namespace elastiform
