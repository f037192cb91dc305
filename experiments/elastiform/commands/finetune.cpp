#include <fmt/format.h>

#include <algorithm>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/memory_limit.hpp"
#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/recipe_tuning.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/teacher_file.hpp"
#include "experiments/elastiform/train_output.hpp"
#include "experiments/elastiform/train_plan.hpp"
#include "experiments/elastiform/train_run.hpp"
#include "kernels/errors.hpp"
#include "supernet/parametrizations/merge.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {
namespace {

constexpr const char* kWhere = "elastiform finetune";

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const ParametrizationEntry& entry : parametrizations()) names.emplace_back(entry.name);
  return names;
}

/// `elastiform finetune`: trains a run's supernet, or one subnet of it, further into a run of its own.
class FinetuneCommand final : public Command {
 public:
  std::string_view name() const override { return "finetune"; }
  std::string_view help() const override {
    return "Tune a run, or one subnet of it, into a new run (LoRA, biases, a prompt, all weights …)";
  }
  std::string_view example() const override {
    return "elastiform finetune runs/demo --subnet middle --method lora --rank 8 --text mine.txt --steps 200 --run runs/tuned";
  }
  bool computes() const override { return true; }
  void declare(Options& options) override {
    options.positional("from", from_, "Run folder whose weights are tuned");
    options.option("subnet", subnet_, "Cut this subnet out and tune it alone: text, largest, middle, smallest or an id (default: all)");
    options.choice("method", method_, method_names(), "What learns (docs/finetune.md)");
    options.option("rank", rank_, fmt::format("Of lora: columns of A (default: {})", kUsualRank), 1);
    options.option("ranks", ranks_,
                   "Of lora: several, e.g. 2,4,8; each subnet of a step takes one, and any can be merged (not with --rank)");
    options.option("alpha", alpha_, fmt::format("Of lora: the maps are W + alpha/rank A B (default: {})", kUsualAlpha), 1e-6, 1e6);
    options.option("width", width_, fmt::format("Of adapter: the bottleneck after each branch (default: {})", kUsualWidth), 1);
    options.option("keys", keys_, fmt::format("Of prefix: learned keys and values in front of each attention's (default: {})", kUsualKeys),
                   1);
    options.option("tokens", tokens_, fmt::format("Of prompt: learned vectors in front of each sequence (default: {})", kUsualTokens), 1);
    options.option("targets", targets_, "Linear maps, e.g. query,value (default: all of them)");
    options.choice("weights", weights_, kWeightChoices, kWeightsHelp);
    options.option("text", text_, "File or folder to learn from (default: the run's own text)");
    options.option("steps", steps_, "Updates", 1);
    options.option("rate", rate_, "Peak learning rate (default: the run's; of full a tenth of it)", 1e-12, 100);
    options.flag(
        "distill", distill_,
        "Smaller subnets also learn the largest's predictions; with --subnet the subnet learns the run's teacher's, or its largest's");
    options.option("run", run_, "Folder of the new run (default: the run's name and -tuned)");
    options.option("set", set_, "Replace another value of the new recipe: table.key=value");
    options.flag("dry-run", dry_run_, "Print memory, costs and minutes; write nothing");
    options.option("memory-limit", memory_limit_, "Recompute activations so that all that is planned fits, e.g. 512MiB");
  }

  int run(const CommonOptions& common) override {
    std::optional<Run> from(std::in_place, from_, weights_);
    LoadedSupernet base = base_of(*from);
    Recipe recipe = recipe_for(*from, base);
    const std::optional<LoadedSupernet> teacher = teacher_for(*from, recipe);
    const std::string folder = run_ ? typed_folder(*run_, kWhere) : from->paths().folder + "-tuned";
    from.reset();  // its weights are not part of what the training plans
    MemoryOptions memory;
    if (memory_limit_) memory.limit = parse_memory_limit(*memory_limit_);
    if (dry_run_) return elastiform::dry_run(recipe, common, memory);
    return print_outcome(train_new(recipe, folder, memory, common, {&base, teacher ? &*teacher : nullptr}), common, "evaluate");
  }

 private:
  /// What the tuning begins with: the run's supernet, or the subnet alone, cut out.
  LoadedSupernet base_of(Run& from) const {
    const LoadedSupernet& all = from.supernet();
    if (!subnet_)
      return {all.space, merged(all.weights), all.recipe_toml, all.data_sha256, weights_hash(all.weights), all.steps, all.identity};
    Weights weights = extract(all.weights, from.subnet(*subnet_));
    std::string hash = weights_hash(weights);
    return {weights.table().space(), std::move(weights), all.recipe_toml, all.data_sha256, std::move(hash), all.steps, all.identity};
  }

  /// What the recipe's stages learn from, if they do: the run's own teacher, or its largest subnet as it is now.
  static std::optional<LoadedSupernet> teacher_for(const Run& from, Recipe& recipe) {
    recipe.train.teacher.reset(), recipe.teacher.clear();
    if (!needs_teacher(recipe)) return std::nullopt;
    const LoadedSupernet& now = from.supernet();
    std::optional<LoadedSupernet> teacher(from.recipe().train.teacher
                                              ? load_teacher(from.recipe(), from.paths())
                                              : teacher_of(now.weights, now.recipe_toml, now.data_sha256, now.steps, now.identity));
    take_teacher(recipe, *teacher);
    return teacher;
  }

  Tuning tuning_for(const ModelConfig& model) const {
    const ParametrizationEntry& method = find_parametrization(method_, std::string(kWhere) + ": --method");
    const auto refuse = [&](const char* option) {
      throw InputError(
          {std::string(kWhere) + ": " + option, "a method that takes it", "--method " + method_, std::string("leave ") + option + " out"});
    };
    Tuning tuning;
    tuning.method = method.method;
    if (!method.how->has_rank() && rank_) refuse("--rank");
    if (!method.how->has_rank() && ranks_) refuse("--ranks");
    if (rank_ && ranks_)
      throw InputError(
          {std::string(kWhere) + ": --ranks", "one of --rank and --ranks", "both", "leave --rank out: it is the last of --ranks"});
    if (!method.how->has_rank() && alpha_) refuse("--alpha");
    if (!method.how->has_width() && width_) refuse("--width");
    if (!method.how->has_keys() && keys_) refuse("--keys");
    if (!method.how->has_tokens() && tokens_) refuse("--tokens");
    if (!method.how->has_targets() && targets_) refuse("--targets");
    const auto whole = [](std::int64_t value) { return static_cast<int>(std::min<std::int64_t>(value, INT32_MAX)); };
    if (method.how->has_rank()) tuning.rank = whole(rank_.value_or(kUsualRank)), tuning.alpha = alpha_.value_or(kUsualAlpha);
    if (ranks_) tuning.ranks = parse_ranks(*ranks_, std::string(kWhere) + ": --ranks"), tuning.rank = tuning.ranks.back();
    if (method.how->has_width()) tuning.width = whole(width_.value_or(kUsualWidth));
    if (method.how->has_keys()) tuning.keys = whole(keys_.value_or(kUsualKeys));
    if (method.how->has_tokens()) tuning.tokens = whole(tokens_.value_or(kUsualTokens));
    if (method.how->has_targets()) tuning.targets = parse_targets(targets_.value_or(""), model, std::string(kWhere) + ": --targets");
    return tuning;
  }

  std::vector<Stage> stages() const {
    Stage stage;
    if (subnet_) stage.sampler = "largest", stage.objective = distill_ ? "labels+teacher" : stage.objective;
    else if (distill_) stage.sampler = "sandwich", stage.objective = "labels+largest";
    else stage.largest = 0.25, stage.smallest = 0.125;
    return {stage};
  }

  /// The run's recipe with what is asked for; --set comes last, as everywhere.
  Recipe recipe_for(Run& from, const LoadedSupernet& base) const {
    if (const Tuning& before = from.space().model().tuning; before.method != TuningMethod::full)
      throw InputError({kWhere, "a run whose weights are a plain network's",
                        fmt::format("{}, tuned with {}, which does not merge", from.name(), parametrization_of(before).name),
                        "tune the run that it came from"});
    Recipe recipe = from.recipe();
    take_defaults_of_optimizer(recipe.train);
    recipe.space = tuned_space(base.space, tuning_for(base.space.model()), kWhere);
    recipe.base = base.weights_hash;
    recipe.train.steps = steps_;
    recipe.train.rate = rate_.value_or(recipe.train.rate * parametrization_of(recipe.space.model().tuning).usual_rate);
    recipe.stages = stages();
    resolve_stages(recipe.stages, recipe.train.steps);
    if (subnet_) recipe.search.budgets.clear();  // of a space with other subnets
    if (text_ && has_images(recipe.data))
      throw InputError({std::string(kWhere) + ": --text", "a run of a language model", "a classifier of images",
                        "--set data.images=PATH names other images"});
    if (text_) recipe.data.text = *text_;
    const Recipe changed = Recipe::parse(recipe.text(), kWhere, set_, true);
    const bool other_teacher = changed.teacher != recipe.teacher || changed.train.teacher != recipe.train.teacher;
    if (changed.base != recipe.base || other_teacher || without_tuning(changed.space) != base.space)
      throw InputError({std::string(kWhere) + ": --set", "keys of [data], [train], [[stage]], [deploy] and [search]",
                        "one that changes the network", "a run's network stays as it is; train a new one to change it"});
    return changed;
  }

  /// Another optimizer's usual rate is its own.
  void take_defaults_of_optimizer(TrainOptions& train) const {
    constexpr std::string_view kKey = "train.optimizer=";
    for (const std::string& one : set_) {
      if (!one.starts_with(kKey) || one.substr(kKey.size()) == train.optimizer) continue;
      const TrainOptions usual;
      train.optimizer = one.substr(kKey.size());
      train.rate = usual.rate, train.decay = usual.decay, train.beta1 = usual.beta1, train.beta2 = usual.beta2, train.eps = usual.eps;
      find_optimizer(train.optimizer).set_defaults(train);
    }
  }

  std::string from_, method_ = "lora", weights_ = "trained";
  std::optional<std::string> subnet_, ranks_, targets_, text_, run_, memory_limit_;
  std::optional<std::int64_t> rank_, width_, tokens_, keys_;
  std::optional<double> alpha_, rate_;
  std::int64_t steps_ = 500;
  std::vector<std::string> set_;
  bool distill_ = false, dry_run_ = false;
};

}  // namespace

std::unique_ptr<Command> make_finetune_command() { return std::make_unique<FinetuneCommand>(); }

}  // namespace elastiform
