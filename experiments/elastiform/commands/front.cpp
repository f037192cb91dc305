#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/evaluation_output.hpp"
#include "experiments/elastiform/search_steps.hpp"

namespace elastiform {
namespace {

/// `elastiform front`: the non-dominated evaluations of the current weights, or of their running average.
class FrontCommand final : public Command {
 public:
  std::string_view name() const override { return "front"; }
  std::string_view help() const override { return "The best subnets found so far at every cost"; }
  std::string_view example() const override { return "elastiform front runs/demo --budget parameters=..60%"; }
  void declare(Options& options) override {
    options.positional("run", run_, "Run folder");
    options.option("budget", budgets_, "Only subnets inside this limit, e.g. parameters=..2M; all must hold");
    options.choice("weights", weights_, kWeightChoices, kWeightsHelp);
    options.option("rank", rank_, kRankHelp, 1);
  }
  int run(const CommonOptions& common) override {
    const Run run(run_, weights_, rank_, Placing::mapped);
    const Budget budget = Budget::parse(budgets_, run.costs());
    const auto store = run.results(ResultStore::Mode::read);
    const std::vector<Evaluation> evaluations = comparable_evaluations(run, *store, budget);
    ParetoFront front(leading_cost(budget));
    for (const Evaluation& evaluation : evaluations) front.add(evaluation);
    if (common.json) {
      std::vector<std::string> members;
      for (const Evaluation& member : front.members()) members.push_back(evaluation_json(member, run.metric()).text());
      fmt::print("{}\n", json_list(members));
      return 0;
    }
    const bool average = weights_ == "ema";
    const char* const which = average ? "weights' running average" : "current weights";
    if (evaluations.empty()) {
      fmt::print("{}: no evaluation of the {}{} yet: elastiform search {}{}\n", run.name(), which,
                 budget.text().empty() ? "" : " inside " + budget.text(), run.name(), average ? " --weights ema" : "");
      return 0;
    }
    fmt::print("{} of {} evaluations of the {} are on the front ({} against {} on the search split{})\n\n{}\n{}", front.members().size(),
               evaluations.size(), which, name_of(front.cost()), run.metric().loss, budget.text().empty() ? "" : "; " + budget.text(),
               front_table(front, run.metric()), front_plot(evaluations, front, run.metric()));
    const bool measured = std::ranges::any_of(front.members(), [](const Evaluation& member) { return std::isfinite(member.latency_ms); });
    if (run.costs().latency()) fmt::print("latencies are predicted by {}\n", run.costs().latency()->origin);
    else if (measured) fmt::print("measured latencies stand beside no table: {}\n", run.costs().why_no_latency());
    return 0;
  }

 private:
  std::string run_, weights_ = "trained";
  std::optional<std::int64_t> rank_;
  std::vector<std::string> budgets_;
};

}  // namespace

std::unique_ptr<Command> make_front_command() { return std::make_unique<FrontCommand>(); }

}  // namespace elastiform
