#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/tuned_finalists.hpp"
#include "search/budget.hpp"
#include "search/deployable.hpp"
#include "search/evaluator.hpp"
#include "search/law.hpp"
#include "search/measured_finalists.hpp"
#include "search/statistics.hpp"

namespace elastiform {

class FeasibleSet;

/// Differences in quality below this are called equivalent: 0.01 bits/byte, fixed before any run (docs/search.md).
constexpr double kMargin = 0.01;
/// The same of classifiers' accuracy: 0.3 points.
constexpr double kAccuracyMargin = 0.003;

/// One search: what decides its course beside the weights. Everything but the number of evaluations is part of its name.
struct SearchRequest {
  std::vector<std::string> budget;  // texts, all of which hold; none: the whole space
  Deployable deployable = Deployable::any;
  std::string algorithm;
  Law law = Law::balanced;
  std::uint64_t seed = 0;
  std::size_t evaluations = 0;
  std::size_t finalists = 0;        // the best of a search, to be fine-tuned; no part of its name
  std::int64_t finetune_steps = 0;  // of each
  std::size_t members = 0;          // homogeneous: at most this many, evenly spaced in the list; 0: all
};
/// With the recipe's algorithm, law, seed and number of evaluations.
SearchRequest search_request(const Recipe& recipe, std::vector<std::string> budget);

struct SearchOutcome {
  std::string name;      // of the search in the store
  std::string budget;    // canonical; "" is the whole space
  std::string feasible;  // members, decimal digits
  std::string law, deployable;
  std::vector<Evaluation> found, homogeneous;  // in the order they were evaluated
  // The answer is the best of everything evaluated inside the budget, whoever proposed it; the two below say who did.
  std::optional<Evaluation> best, best_of_algorithm, best_homogeneous;
  std::string algorithm;
  // best_of_algorithm minus best_homogeneous, bits/byte, over blocks of the search split; none where homogeneous is the algorithm.
  std::optional<PairedDifference> difference;
  std::string verdict;           // of the difference; classifiers are judged by accuracy, in evaluate
  Cost cost = Cost::parameters;  // the x axis of the front: what the budget limits first
  bool interrupted = false;      // ended after a round by Ctrl-C; everything evaluated is stored
  Metric metric = kTextMetric;
  std::optional<MeasuredFinalists> latency;  // of a budget that limits it
  std::optional<TunedFinalists> finalists;   // of a request that has some
  bool admits(const Evaluation& evaluation) const { return !latency || latency->admits(evaluation); }
};

/// The subnets of the run inside a request's budget. InputError with the nearest costs when there is none.
FeasibleSet feasible_set(const Run& run, const SearchRequest& request);

/// Runs or continues the search, then evaluates the homogeneous members of the same set as a search of its own, so that the strong rival
/// stands beside the result: all of them, or max(256, evaluations) evenly spaced ones when there are more. Progress and the budget's meaning
/// go to the text stream. `feasible`: feasible_set() of the request; `evaluator` scores on search_set() of the run.
SearchOutcome run_budget_search(const Run& run, ResultStore& store, const SearchRequest& request, const FeasibleSet& feasible,
                                Evaluator& evaluator, const CommonOptions& common);

/// Best found, best homogeneous, their difference with interval and verdict, the front as a table and a plot.
std::string outcome_text(const SearchOutcome& outcome);
std::string outcome_json(const SearchOutcome& outcome);

/// The stored evaluations of the current weights that a search of this run can be compared with: same blocks, inside the budget.
std::vector<Evaluation> comparable_evaluations(const Run& run, const ResultStore& store, const Budget& budget);
/// The cost that a budget limits first, parameters when it limits none.
Cost leading_cost(const Budget& budget);

/// a - b in the metric's unit of loss on their common blocks.
PairedDifference difference_in_bits(const Evaluation& a, const Evaluation& b, std::uint64_t seed, const Metric& metric = kTextMetric);
/// "-0.0123 bits/byte, 95 % interval -0.0200 to -0.0046 over 220 blocks of data: better"
std::string difference_text(const PairedDifference& difference);
std::string difference_text(const PairedDifference& difference, std::string_view verdict,
                            const Metric& metric = kTextMetric);  // the verdict of a whole table

/// Of each subnet 1 where it names an image's class, 0 where not, in the order of the split. Stores hold losses alone: what came from
/// there is scored anew.
std::vector<std::vector<float>> hits_of(Run& run, std::span<const Evaluation> evaluations, const ScoringSet& set,
                                        const CommonOptions& common);
/// Of the difference of two of them, which tells by 0.3 points of accuracy.
std::string verdict_of_hits(const PairedDifference& difference);
/// "+0.40 points of accuracy, 95 % interval -0.20 to +1.00 over 500 images: undecided (margin 0.3 points)"
std::string difference_of_hits_text(const PairedDifference& difference);

}  // namespace elastiform
