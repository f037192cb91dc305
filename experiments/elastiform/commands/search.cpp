#include <fmt/core.h>

#include <algorithm>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/export_steps.hpp"
#include "experiments/elastiform/finetune_steps.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/search_evaluator.hpp"
#include "experiments/elastiform/search_steps.hpp"
#include "kernels/errors.hpp"
#include "search/algorithms/algorithm.hpp"
#include "search/feasible_set.hpp"

namespace elastiform {
namespace {

/// `elastiform search`: the best subnets of a trained supernet inside a budget. The same command continues it.
class SearchCommand final : public Command {
 public:
  std::string_view name() const override { return "search"; }
  std::string_view help() const override {
    return "Find the best subnets inside a budget; the same command continues it, under mpirun on several processes";
  }
  std::string_view example() const override { return "elastiform search runs/demo --budget parameters=..60% --evaluations 100"; }
  bool computes() const override { return true; }
  bool shares_work() const override { return true; }
  void declare(Options& options) override {
    options.positional("run", run_, "Run folder of a trained supernet");
    options.option("budget", budgets_,
                   "Limit a cost, e.g. parameters=..2M; all must hold; without it: one search per entry of search.budgets");
    options.option("deployable", deployable_, "Only what this export format can express: " + deployable_names());
    options.choice("weights", weights_, kWeightChoices, kWeightsHelp);
    options.option("rank", rank_, kRankHelp, 1);
    options.flag("share-weights", shares_, kShareHelp);
    options.option("algorithm", algorithm_, "random, evolution, predictor or homogeneous (default: the recipe's)");
    options.option("law", law_, "How subnets are drawn: balanced or uniform (default: the recipe's)");
    options.option("seed", seed_, "Equal seeds search equally (default: the recipe's)", 0);
    options.option("finalists", finalists_, "Fine-tune this many of the best, each alone, and rank them again (with --finetune-steps)", 1);
    options.option("finetune-steps", finetune_steps_, "Updates of each finalist", 1);
    options.option("evaluations", evaluations_, "Subnets to evaluate in all, rounded up to whole rounds (default: the recipe's)", 1);
  }
  int run(const CommonOptions& common) override {
    if (finalists_.has_value() != finetune_steps_.has_value())
      throw InputError({std::string("elastiform search: ") + (finalists_ ? "--finalists" : "--finetune-steps"),
                        finalists_ ? "--finetune-steps N beside it" : "--finalists K beside it", "it alone",
                        "--finalists 5 --finetune-steps 200"});
    Run run(run_, weights_, rank_, shares_ ? Placing::mapped : Placing::copied);
    if (finalists_) check_tunable(run, "elastiform search: --finalists");
    if (!ranks_of(common).leads()) {
      SearchEvaluator(run, common).follow();
      return 0;
    }
    std::vector<SearchRequest> requests;
    for (const auto& budget : budgets_of(run.recipe())) requests.push_back(request_of(run.recipe(), budget));
    // An impossible budget is refused before any search has spent time.
    std::vector<FeasibleSet> sets;
    for (const auto& request : requests) sets.push_back(feasible_set(run, request));
    if (ranks_of(common).size() > 1) refuse_ranks(sets);
    const auto store = run.results(ResultStore::Mode::write);
    std::vector<std::string> documents;
    int status = 0;
    SearchEvaluator scoring(run, common);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const SearchOutcome outcome = run_budget_search(run, *store, requests[i], sets[i], scoring.evaluator(), common);
      documents.push_back(outcome_json(outcome));
      if (!common.json) fmt::print("\n{}\n", outcome_text(outcome));
      if (!outcome.interrupted) continue;
      status = kInterruptedStatus;
      break;
    }
    scoring.finish();
    if (common.json) fmt::print("{}\n", json_list(documents));
    return status;
  }

 private:
  std::vector<std::vector<std::string>> budgets_of(const Recipe& recipe) const {
    if (!budgets_.empty() || recipe.search.budgets.empty()) return {budgets_};
    std::vector<std::vector<std::string>> each;
    for (const std::string& budget : recipe.search.budgets) each.push_back({budget});
    return each;
  }
  SearchRequest request_of(const Recipe& recipe, const std::vector<std::string>& budget) const {
    SearchRequest request = search_request(recipe, budget);
    if (deployable_) request.deployable = parse_deployable(*deployable_);
    check_deployable_tokenizer(recipe, request.deployable);
    if (algorithm_) request.algorithm = std::string(find_algorithm(*algorithm_).name);
    if (request.algorithm == "homogeneous")
      for (const auto& [given, option] :
           {std::pair{law_.has_value(), "--law"}, {seed_.has_value(), "--seed"}, {evaluations_.has_value(), "--evaluations"}})
        if (given)
          throw InputError({std::string("elastiform search ") + option,
                            "nothing beside --algorithm homogeneous, which evaluates its whole list", option, "leave it out"});
    if (law_) request.law = parse_law(*law_);
    if (seed_) request.seed = static_cast<std::uint64_t>(*seed_);
    if (evaluations_) request.evaluations = static_cast<std::size_t>(*evaluations_);
    if (finalists_) request.finalists = static_cast<std::size_t>(*finalists_), request.finetune_steps = *finetune_steps_;
    return request;
  }

  /// What one process does while the others wait, who turn in a loop: they would be measured too, and a training would be theirs as well.
  void refuse_ranks(const std::vector<FeasibleSet>& sets) const {
    const bool measures = std::ranges::any_of(sets, [](const FeasibleSet& set) { return set.budget().limit_of(Cost::latency) != nullptr; });
    if (measures || finalists_)
      throw InputError({std::string("elastiform search: ") + (measures ? "a latency budget" : "--finalists"), "one process", "several",
                        "run it without mpirun; it goes on from the same rounds"});
  }

  std::string run_, weights_ = "trained";
  std::optional<std::int64_t> rank_;
  bool shares_ = false;
  std::vector<std::string> budgets_;
  std::optional<std::string> deployable_, algorithm_, law_;
  std::optional<std::int64_t> seed_, evaluations_, finalists_, finetune_steps_;
};

}  // namespace

std::unique_ptr<Command> make_search_command() { return std::make_unique<SearchCommand>(); }

}  // namespace elastiform
