#pragma once

#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "search/budget.hpp"
#include "search/inference_clock.hpp"
#include "search/result_store.hpp"

namespace elastiform {

/// What measuring made of a search under a latency budget. A predicted latency proposes; the measured median decides.
struct MeasuredFinalists {
  std::string table;                       // whose table predicted
  double guard = 0;                        // of its predictions
  bool measured = false;                   // false: the table is of another machine or program, so what this one needs says nothing
  std::set<std::int64_t> inside, outside;  // ids, by measured median
  std::size_t unmeasured = 0;              // answers that kMostMeasured left out, so they are none
  /// Whether it may be an answer.
  bool admits(const Evaluation& evaluation) const { return !measured || inside.contains(evaluation.id); }
};

/// Whether a median is within a limit on latency.
bool within(const Limit& limit, double milliseconds);

/// Measures the best of each list, the `best` best of both and the members of their common front against `cost`, and whoever follows those
/// that turn out to be outside, until all of them are inside or kMostMeasured networks have been measured. Medians join the evaluations and
/// the store; those that the store has count. `stop` as in time_in_turn(): what was measured in full stays.
constexpr std::size_t kMostMeasured = 64;
MeasuredFinalists measure_finalists(const Limit& limit, Cost cost, std::size_t best, std::vector<Evaluation>& found,
                                    std::vector<Evaluation>& rivals, InferenceClock& clock, ResultStore& store,
                                    const std::function<bool()>& stop = {});

}  // namespace elastiform
