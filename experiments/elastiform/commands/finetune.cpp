#include <fmt/format.h>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/finetune_steps.hpp"
#include "experiments/elastiform/memory_limit.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/train_output.hpp"
#include "experiments/elastiform/train_plan.hpp"
#include "experiments/elastiform/train_run.hpp"
#include "supernet/parametrizations/parametrization.hpp"

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
    options.choice("method", request_.method, method_names(), "What learns (docs/finetune.md)");
    options.option("rank", request_.rank, fmt::format("Of lora: columns of A (default: {})", kUsualRank), 1);
    options.option("ranks", request_.ranks,
                   "Of lora: several, e.g. 2,4,8; each subnet of a step takes one, and any can be merged (not with --rank)");
    options.option("alpha", request_.alpha, fmt::format("Of lora: the maps are W + alpha/rank A B (default: {})", kUsualAlpha), 1e-6, 1e6);
    options.option("width", request_.width, fmt::format("Of adapter: the bottleneck after each branch (default: {})", kUsualWidth), 1);
    options.option("keys", request_.keys,
                   fmt::format("Of prefix: learned keys and values in front of each attention's (default: {})", kUsualKeys), 1);
    options.option("tokens", request_.tokens,
                   fmt::format("Of prompt: learned vectors in front of each sequence (default: {})", kUsualTokens), 1);
    options.option("targets", request_.targets, "Linear maps, e.g. query,value (default: all of them)");
    options.choice("weights", weights_, kWeightChoices, kWeightsHelp);
    options.option("text", request_.text, "File or folder to learn from (default: the run's own text)");
    options.option("steps", request_.steps, "Updates", 1);
    options.option("rate", request_.rate, "Peak learning rate (default: the run's; of full a tenth of it)", 1e-12, 100);
    options.flag(
        "distill", request_.distill,
        "Smaller subnets also learn the largest's predictions; with --subnet the subnet learns the run's teacher's, or its largest's");
    options.option("run", run_, "Folder of the new run (default: the run's name and -tuned)");
    options.option("set", request_.set, "Replace another value of the new recipe: table.key=value");
    options.flag("dry-run", dry_run_, "Print memory, costs and minutes; write nothing");
    options.option("memory-limit", memory_limit_, "Recompute activations so that all that is planned fits, e.g. 512MiB");
  }

  int run(const CommonOptions& common) override {
    std::optional<Run> from(std::in_place, from_, weights_);
    if (subnet_) request_.subnet = from->subnet(*subnet_);
    LoadedSupernet base = finetune_base(*from, request_.subnet);
    Recipe recipe = finetune_recipe(*from, base, request_);
    const std::optional<LoadedSupernet> teacher = finetune_teacher(*from, recipe);
    const std::string folder = run_ ? typed_folder(*run_, kWhere) : from->paths().folder + "-tuned";
    from.reset();  // its weights are not part of what the training plans
    MemoryOptions memory;
    if (memory_limit_) memory.limit = parse_memory_limit(*memory_limit_);
    if (dry_run_) return elastiform::dry_run(recipe, common, memory);
    return print_outcome(train_new(recipe, folder, memory, common, {&base, teacher ? &*teacher : nullptr}), common, "evaluate");
  }

 private:
  FinetuneRequest request_{.where = kWhere};
  std::string from_, weights_ = "trained";
  std::optional<std::string> subnet_, run_, memory_limit_;
  bool dry_run_ = false;
};

}  // namespace

std::unique_ptr<Command> make_finetune_command() { return std::make_unique<FinetuneCommand>(); }

}  // namespace elastiform
