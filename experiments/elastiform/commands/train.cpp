#include <fmt/core.h>

#include <filesystem>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/evaluation_output.hpp"
#include "experiments/elastiform/memory_limit.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/train_plan.hpp"
#include "experiments/elastiform/train_run.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

constexpr double kWorse = 0.01;  // nats per token: less is noise of the few segments that are scored while training

std::string outcome_json(const TrainOutcome& outcome) {
  JsonObject object, losses;
  object.add("run", outcome.folder).add("step", outcome.steps).add("steps", outcome.total).add("skipped", outcome.skipped);
  object.add("seconds", outcome.seconds).add("interrupted", outcome.interrupted);
  if (outcome.losses) {
    losses.add("smallest", outcome.losses->smallest).add("middle", outcome.losses->middle).add("largest", outcome.losses->largest);
    object.add_json("loss", losses.text());
  }
  return object.text();
}

/// `elastiform train`: trains a supernet into a run folder, or continues one.
class TrainCommand final : public Command {
 public:
  std::string_view name() const override { return "train"; }
  std::string_view help() const override { return "Train a supernet, or continue a run; under mpirun on several processes"; }
  std::string_view example() const override {
    return "elastiform train experiments/recipes/demo.toml --run runs/first --set train.steps=500";
  }
  bool computes() const override { return true; }
  bool shares_work() const override { return true; }
  void declare(Options& options) override {
    options.positional("recipe", recipe_, "TOML file (docs/recipes.md)", false);
    options.option("run", run_, "Folder of the new run (default: runs/ and the recipe's name)");
    options.option("set", set_, "Replace a value of the recipe: table.key=value");
    options.flag("dry-run", dry_run_, "Print memory, costs and minutes; write nothing");
    options.option("resume", resume_, "Continue this run from its last checkpoint");
    options.option("steps", steps_, "With --resume: lengthen the last stage to this many steps in all", 1);
    options.option("memory-limit", memory_limit_, "Recompute activations so that all that is planned fits, e.g. 512MiB (docs/memory.md)");
  }
  int run(const CommonOptions& common) override {
    check_combination();
    std::optional<std::int64_t> limit;
    if (memory_limit_) limit = parse_memory_limit(*memory_limit_);
    if (resume_) return finish(train_resume(trimmed(*resume_), set_, steps_, limit, common), common);
    const auto recipe = Recipe::load(recipe_, set_);
    if (dry_run_) return dry_run(recipe, common, limit);
    const auto folder = run_ ? trimmed(*run_) : "runs/" + std::filesystem::path(recipe_).stem().string();
    return finish(train_new(recipe, folder, limit, common), common);
  }

 private:
  static std::string trimmed(std::string path) {
    path = without_slash(std::move(path));
    if (path.empty()) throw InputError({"elastiform train", "a folder", "an empty name", ""});
    return path;
  }

  void check_combination() const {
    const std::string where = "elastiform train";
    if (!resume_) {
      if (recipe_.empty()) throw InputError({where, "a recipe or --resume RUN", "neither", "see elastiform train --help"});
      if (steps_) throw InputError({where, "--resume with --steps", "--steps alone", "--set train.steps=N sets a new run's steps"});
      return;
    }
    if (!recipe_.empty()) throw InputError({where + " --resume", "no recipe: a run has its own", recipe_, ""});
    if (run_) throw InputError({where + " --resume", "no --run: a run continues in its folder", *run_, ""});
    if (dry_run_) throw InputError({where + " --resume", "no --dry-run", "--dry-run", ""});
  }

  static int finish(const TrainOutcome& outcome, const CommonOptions& common) {
    auto* const stream = text_stream(common.json);
    if (outcome.skipped > 0)
      fmt::print(stream, "warning: {} of {} steps were skipped: loss or gradient not finite; a lower train.rate may help\n",
                 outcome.skipped, outcome.steps);
    if (outcome.losses)
      fmt::print(stream, "{}", chance_warning("the largest subnet", outcome.losses->largest, outcome.vocabulary, outcome.bytes_per_token));
    // The largest contains the others: when it is worse, it was trained too rarely.
    if (outcome.losses && outcome.losses->largest > outcome.losses->middle + kWorse)
      fmt::print(stream, "warning: the largest subnet is worse than the middle one: train longer, or draw it more often (stage.largest)\n");
    if (outcome.interrupted)
      fmt::print(stream, "saved at step {}; go on with: elastiform train --resume {}\n", outcome.steps, outcome.folder);
    else
      fmt::print(stream, "{} holds {} steps, trained in {}; next: elastiform search {}\n", outcome.folder, outcome.steps,
                 duration_text(outcome.seconds), outcome.folder);
    if (common.json) fmt::print("{}\n", outcome_json(outcome));
    return outcome.interrupted ? kInterruptedStatus : 0;
  }

  std::string recipe_;
  std::vector<std::string> set_;
  std::optional<std::string> run_, resume_, memory_limit_;
  std::optional<std::int64_t> steps_;
  bool dry_run_ = false;
};

}  // namespace

std::unique_ptr<Command> make_train_command() { return std::make_unique<TrainCommand>(); }

}  // namespace elastiform
