#include <filesystem>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/memory_limit.hpp"
#include "experiments/elastiform/train_output.hpp"
#include "experiments/elastiform/train_plan.hpp"
#include "experiments/elastiform/train_run.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

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
    options.option("offload", offload_,
                   "Let activations wait in a file of this folder where --memory-limit asks for it; \"pinned\": in memory of a GPU's host");
  }
  int run(const CommonOptions& common) override {
    check_combination();
    MemoryOptions memory;
    if (memory_limit_) memory.limit = parse_memory_limit(*memory_limit_);
    if (offload_) memory.offload = typed_folder(*offload_, "elastiform train");
    if (memory.offload == kPinned && *offload_ != kPinned) memory.offload = "./" + *memory.offload;  // "pinned/" is a folder
    if (resume_) return print_outcome(train_resume(typed_folder(*resume_, "elastiform train"), set_, steps_, memory, common), common);
    const auto recipe = Recipe::load(recipe_, set_);
    if (!recipe.base.empty())
      throw InputError({"recipe " + recipe_ + ": tune", "no [tune]: a training from scratch has no base", "one",
                        "elastiform finetune RUN begins a tuning, --resume goes on with it"});
    if (!recipe.teacher.empty())
      throw InputError({"recipe " + recipe_ + ": teacher", "no [teacher]: a training from scratch has none", "one",
                        "elastiform import and finetune keep one in their runs, --resume goes on with it"});
    if (dry_run_) return dry_run(recipe, common, memory);
    const auto folder = run_ ? typed_folder(*run_, "elastiform train") : "runs/" + std::filesystem::path(recipe_).stem().string();
    return print_outcome(train_new(recipe, folder, memory, common), common);
  }

 private:
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

  std::string recipe_;
  std::vector<std::string> set_;
  std::optional<std::string> run_, resume_, memory_limit_, offload_;
  std::optional<std::int64_t> steps_;
  bool dry_run_ = false;
};

}  // namespace

std::unique_ptr<Command> make_train_command() { return std::make_unique<TrainCommand>(); }

}  // namespace elastiform
