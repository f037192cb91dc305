#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <filesystem>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/compare/comparison.hpp"
#include "experiments/elastiform/compare/schedule.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "search/evaluator.hpp"
#include "supernet/storage/durable_file.hpp"

namespace elastiform {
namespace {

/// `elastiform compare`: ways to train, each with several seeds, under one protocol. The same command goes on where it was stopped.
class CompareCommand final : public Command {
 public:
  std::string_view name() const override { return "compare"; }
  std::string_view help() const override { return "Compare ways to train over seeds: differences with intervals and verdicts"; }
  std::string_view example() const override {
    return "elastiform compare experiments/recipes/survey/optimizers.toml --set train.steps=500";
  }
  bool computes() const override { return true; }
  void declare(Options& options) override {
    options.positional("experiment", path_, "TOML file (docs/compare.md)");
    options.option("run", folder_, "Folder of its trainings and compare.h5 (default: runs/compare- and the file's name)");
    options.option("set", set_, "Replace a value of the recipe for every arm: table.key=value");
    options.option("page", page_, "Write the tables as Markdown too");
    options.flag("dry-run", dry_run_, "Print the trainings it takes; train nothing");
  }
  int run(const CommonOptions& common) override {
    const Experiment experiment = Experiment::load(path_, set_);
    const std::string folder = folder_ ? without_slash(*folder_) : "runs/compare-" + std::filesystem::path(path_).stem().string();
    if (dry_run_) {
      fmt::print(text_stream(common.json), "{}", trials_text(experiment));
      return 0;
    }
    const TrialPlace place = TrialPlace::here(experiment, common);
    std::filesystem::create_directories(folder);
    const FolderLock lock(folder);
    TrialStore store(folder + "/compare.h5", experiment, place);
    std::vector<double> rates;
    try {
      rates = run_trials(experiment, folder, store, common);
    } catch (const Interrupted&) {
      fmt::print(text_stream(common.json), "{} trainings are kept in {}; the same command goes on\n", store.trials().size(), folder);
      return kInterruptedStatus;
    }
    const std::vector<ComparedArm> arms = compare_arms(experiment, store, rates);
    if (page_) write_durably(*page_, comparison_page(experiment, arms, place));
    if (common.json) fmt::print("{}\n", comparison_json(experiment, arms));
    else fmt::print("\n{}", comparison_text(experiment, arms));
    return 0;
  }

 private:
  std::string path_;
  std::optional<std::string> folder_, page_;
  std::vector<std::string> set_;
  bool dry_run_ = false;
};

}  // namespace

std::unique_ptr<Command> make_compare_command() { return std::make_unique<CompareCommand>(); }

}  // namespace elastiform
