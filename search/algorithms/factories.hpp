#pragma once

#include <memory>

#include "search/algorithms/algorithm.hpp"

namespace elastiform {

// One a file; each becomes a row of search_algorithms(). The feasible set must outlive the algorithm.
std::unique_ptr<SearchAlgorithm> make_random_search(const FeasibleSet& feasible, const AlgorithmOptions& options);
std::unique_ptr<SearchAlgorithm> make_homogeneous_search(const FeasibleSet& feasible, const AlgorithmOptions& options);
std::unique_ptr<SearchAlgorithm> make_evolution(const FeasibleSet& feasible, const AlgorithmOptions& options);
std::unique_ptr<SearchAlgorithm> make_predictor(const FeasibleSet& feasible, const AlgorithmOptions& options);

}  // namespace elastiform
