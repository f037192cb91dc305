#pragma once

#include <filesystem>
#include <set>

#include "search/algorithms/algorithm.hpp"
#include "search/feasible_set.hpp"
#include "search/run_search.hpp"
#include "tests/search/small_spaces.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {

/// A loss that is known: every gene lowers it by its own amount with diminishing returns, so its optimum inside a budget is a knapsack's.
struct TextbookEvaluator final : Evaluator {
  double loss(const Subnet& subnet) const;
  std::vector<Score> evaluate(std::span<const Subnet> subnets) override;
  std::size_t evaluated = 0;
};

/// Scores them and tells the algorithm.
std::vector<Evaluation> tell_scores(SearchAlgorithm& algorithm, TextbookEvaluator& evaluator, const std::vector<Subnet>& asked);

/// Two embed widths, depths 4 to 6, 3 head counts and 3 FFN widths a block: 2 · (9^4 + 9^5 + 9^6) subnets.
SearchSpace textbook_space();

/// A search over `set` in a store of its own folder, stopped after `stop_after` rounds (0: never).
struct TextbookSearch {
  const FeasibleSet& set;
  std::string algorithm;
  std::uint64_t seed = 0;
  std::size_t evaluations = 200;
  std::size_t founders = 0;
  std::vector<Evaluation> run(const TemporaryFolder& folder, TextbookEvaluator& evaluator, std::size_t stop_after = 0) const;
  SearchPlan plan() const;
};

}  // namespace elastiform
