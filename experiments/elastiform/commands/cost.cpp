#include <fmt/core.h>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/subnet_output.hpp"

namespace elastiform {
namespace {

/// `elastiform cost`: every cost of one subnet, exactly.
class CostCommand final : public Command {
 public:
  std::string_view name() const override { return "cost"; }
  std::string_view help() const override { return "Every cost of one subnet"; }
  std::string_view example() const override { return "elastiform cost experiments/recipes/demo.toml --subnet largest"; }
  void declare(Options& options) override {
    options.positional("run-or-recipe", path_, "Run folder or recipe");
    options.option("subnet", subnet_, "A subnet's text, largest, middle, smallest or an id of the run");
  }
  int run(const CommonOptions& common) override {
    const auto recipe = load_recipe_or_run(path_);
    const auto costs = costs_of(recipe, path_);
    const auto subnet = subnet_of(recipe, path_, subnet_);
    const auto value = costs.of(subnet);
    if (common.json) {
      JsonObject object = cost_json(subnet, value);
      if (costs.latency()) object.add("latency_table", costs.latency()->origin);
      fmt::print("{}\n", object.text());
      return 0;
    }
    const auto unit = [](std::int64_t bytes) { return bytes_text(static_cast<double>(bytes)); };
    fmt::print("{}\n", format(subnet));
    fmt::print("parameters        {:>15}  stored scalars, tied matrices once\n", grouped(value.parameters));
    fmt::print("block parameters  {:>15}  without embedding, final norm and head\n", grouped(value.block_parameters));
    const Metric& metric = metric_of(recipe.space.model());
    fmt::print("{:<18}{:>15}  {}attention and head included\n", fmt::format("MACs per {}", metric.input), grouped(value.macs),
               metric.classifies ? "" : "mean over a full context, ");
    fmt::print("inference         {:>15}  weights, {}working memory under [deploy] {}\n", unit(value.inference_bytes),
               metric.classifies ? "" : "KV cache and ", deploy_text(recipe.deploy));
    fmt::print("training          {:>15}  this subnet alone: weights, gradients, optimizer, activations\n", unit(value.training_bytes));
    if (value.latency > 0)
      fmt::print("latency           {:>15}  predicted by {}, guard band {:.1f} %; elastiform latency measures\n",
                 time_text(static_cast<double>(value.latency) / 1e9), costs.latency()->origin, 100 * costs.latency()->guard);
    return 0;
  }

 private:
  std::string path_, subnet_ = "largest";
};

}  // namespace

std::unique_ptr<Command> make_cost_command() { return std::make_unique<CostCommand>(); }

}  // namespace elastiform
