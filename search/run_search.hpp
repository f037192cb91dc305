#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "search/algorithms/algorithm.hpp"
#include "search/result_store.hpp"

namespace elastiform {

struct SearchPlan {
  SearchDescription description;
  std::string split = "search";
  std::string compute = "f32";  // text() of the evaluator's
  std::size_t evaluations = 0;  // in total, with those in the store; rounded up to whole rounds
  std::size_t round_size = 16;
};

/// Continues `plan.description` in `store` until it has plan.evaluations, or the algorithm has nothing more to ask. Equal keys of other
/// searches are reused as a memo, never as rounds. `progress(done)` after each round; returning false ends it there (Ctrl-C).
/// Returns the search's evaluations in order.
std::vector<Evaluation> run_search(const SearchPlan& plan, SearchAlgorithm& algorithm, Evaluator& evaluator, const CostModel& costs,
                                   ResultStore& store, const std::function<bool(const std::vector<Evaluation>&)>& progress);

}  // namespace elastiform
