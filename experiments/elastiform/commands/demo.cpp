#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "experiments/elastiform/demo_steps.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/search_evaluator.hpp"
#include "experiments/elastiform/train_run.hpp"
#include "kernels/errors.hpp"
#include "search/feasible_set.hpp"

namespace elastiform {
namespace {

// Searched for beside the budgets: what the model's family can be exported as.
Deployable target_of(const Recipe& recipe) { return parse_deployable(recipe.space.model().preset == "gpt2" ? "hf-gpt2" : "hf-llama"); }

std::string next_free(const std::string& folder) {
  std::error_code error;
  auto path = folder;
  for (int i = 2; std::filesystem::exists(path, error); ++i) path = fmt::format("{}-{}", folder, i);
  return path;
}

/// `elastiform demo`: from text to exported networks, with the comparisons that a reader would ask for.
class DemoCommand final : public Command {
 public:
  std::string_view name() const override { return "demo"; }
  std::string_view help() const override { return "Train, search, compare, export and generate, in a few minutes"; }
  std::string_view example() const override { return "elastiform demo --text experiments/recipes/kjv.txt"; }
  bool computes() const override { return true; }
  void declare(Options& options) override {
    options.option("text", text_, "A file or a folder instead of the recipe's text");
    options.option("recipe", recipe_, "What to train and search for");
  }
  int run(const CommonOptions& common) override {
    const auto begin = std::chrono::steady_clock::now();
    stream_ = text_stream(common.json);
    std::vector<std::string> set;
    if (text_) set.push_back("data.text=" + *text_);
    const auto recipe = Recipe::load(recipe_, set);
    if (recipe.search.budgets.empty()) throw InputError({recipe_ + ": search.budgets", "at least one budget", "none", ""});
    if (has_images(recipe.data))
      throw InputError({recipe_ + ": data", "text, which demo exports and generates from", "images", "elastiform train, then search"});
    const auto folder = next_free("runs/" + std::filesystem::path(recipe_).stem().string());
    const auto readable = open_data(recipe);  // or its InputError, before anything is printed
    say("Training a supernet into {}", folder);
    const auto trained = train_new(recipe, folder, {}, common);
    if (trained.interrupted) {
      fmt::print(stream_, "saved at step {}; go on with: elastiform train --resume {}\n", trained.steps, folder);
      return kInterruptedStatus;
    }
    Run run(folder);
    const int status = search_and_export(run, common);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    if (status == 0) close(run, common, seconds.count());
    return status;
  }

 private:
  template <class... Values>
  void say(fmt::format_string<Values...> what, Values&&... values) const {
    fmt::print(stream_, "\n== {}\n", fmt::format(what, std::forward<Values>(values)...));
    std::fflush(stream_);
  }

  int search_and_export(Run& run, const CommonOptions& common) {
    for (const auto& budget : run.recipe().search.budgets) {
      say("Searching inside {}", budget);
      if (!search(run, search_request(run.recipe(), {budget}), common)) return kInterruptedStatus;
    }
    auto request = search_request(run.recipe(), {run.recipe().search.budgets.back()});
    request.deployable = target_of(run.recipe());
    say("Searching inside {} for what {} can express", request.budget.front(), name_of(request.deployable));
    try {
      if (!search(run, request, common)) return kInterruptedStatus;
    } catch (const InputError& error) {
      fmt::print(stream_, "none: {}\n", error.what());
    }
    say("On the report split, which neither training nor search has seen");
    rows_ = score_on_report(run, outcomes_, common);
    models_ = measure_byte_models(run.recipe());
    fmt::print(stream_, "{}", report_text(rows_, outcomes_, models_));
    if (interrupted()) return kInterruptedStatus;
    say("Exporting what was found");
    for (const auto& outcome : outcomes_) {
      const bool as_own = outcome.deployable == name_of(Deployable::any);
      const auto& target = find_format(as_own ? "elastiform" : outcome.deployable);
      const auto twin =
          std::find_if(exports_.begin(), exports_.end(), [&](const Exported& e) { return e.card.subnet == format(outcome.best->subnet); });
      if (as_own && twin != exports_.end()) continue;  // two budgets, one winner
      exports_.push_back(export_subnet(run, outcome.best->subnet, target, {}, common));
      fmt::print(stream_, "{}: {} as {}, read back: largest difference of logits {:.1e}\n", exports_.back().path,
                 exports_.back().card.subnet, target.name, exports_.back().difference);
    }
    say("What they write");
    const auto prompt = demo_prompt(run);
    for (const auto& exported : exports_)
      fmt::print(stream_, "{}:\n  {}\n", exported.path, continuation(exported.path, prompt, 160, common));
    return interrupted() ? kInterruptedStatus : 0;
  }

  bool search(Run& run, const SearchRequest& request, const CommonOptions& common) {
    const auto feasible = feasible_set(run, request);
    const auto store = run.results(ResultStore::Mode::write);
    SearchEvaluator scoring(run, common);
    auto outcome = run_budget_search(run, *store, request, feasible, scoring.evaluator(), common);
    if (outcome.interrupted || !outcome.best) {
      fmt::print(stream_, "stopped; what was evaluated is kept: elastiform search {}\n", run.name());
      return false;
    }
    fmt::print(stream_, "{}", outcome_text(outcome));
    outcomes_.push_back(std::move(outcome));
    return true;
  }

  void close(const Run& run, const CommonOptions& common, double seconds) const {
    say("Done in {}", duration_text(seconds));
    fmt::print(stream_, "{} holds the run: recipe.toml, supernet.h5, results.h5, exports/\n\nTry next:\n", run.name());
    fmt::print(stream_, "  elastiform front {}\n", run.name());
    fmt::print(stream_, "  elastiform search {} --budget macs=..50%\n", run.name());
    fmt::print(stream_, "  {}\n", try_line(exports_.back().path, run.space().model()));
    fmt::print(stream_, "  elastiform evaluate {} --subnet middle --split report\n", run.name());
    if (!common.json) return;
    std::vector<std::string> searches, rows, models, paths;
    for (const auto& outcome : outcomes_) searches.push_back(outcome_json(outcome));
    for (const auto& row : rows_)
      rows.push_back(JsonObject()
                         .add("name", row.name)
                         .add("subnet", format(row.subnet))
                         .add("parameters", row.report.costs.parameters)
                         .add("bits_per_byte", bits_per_nat(row.report) * row.report.score.loss)
                         .add("bits_per_byte_se", bits_per_nat(row.report) * row.report.score.loss_se)
                         .text());
    for (const auto& model : models_.models)
      models.push_back(JsonObject().add("order", model.order).add("bits_per_byte", model.bits_per_byte).text());
    for (const auto& exported : exports_)
      paths.push_back(JsonObject().add("path", exported.path).add("subnet", exported.card.subnet).text());
    fmt::print("{}\n", JsonObject()
                           .add("run", run.name())
                           .add("seconds", seconds)
                           .add_json("searches", json_list(searches))
                           .add_json("report", json_list(rows))
                           .add_json("kneser_ney", json_list(models))
                           .add_json("exports", json_list(paths))
                           .text());
  }

  std::optional<std::string> text_;
  std::string recipe_ = "experiments/recipes/demo.toml";
  std::FILE* stream_ = stdout;
  std::vector<SearchOutcome> outcomes_;
  std::vector<NamedSubnet> rows_;
  ByteModels models_;
  std::vector<Exported> exports_;
};

}  // namespace

std::unique_ptr<Command> make_demo_command() { return std::make_unique<DemoCommand>(); }

}  // namespace elastiform
