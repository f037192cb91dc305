#include <fmt/core.h>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/export_steps.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/subnet_output.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "search/feasible_set.hpp"
#include "trainers/trainer.hpp"

namespace elastiform {
namespace {

struct Count {
  std::string typed, budget;  // as the user wrote it, and canonical; "" none
  std::string feasible;       // decimal digits
  std::string why_empty;      // "" when there is a subnet
};

Count count_of(const CostModel& costs, const std::vector<std::string>& budget, Deployable target) {
  const FeasibleSet set(costs, Budget::parse(budget, costs), target);
  std::string typed;
  for (const auto& text : budget) typed += (typed.empty() ? "" : ",") + text;
  return {typed, set.budget().text(), set.count().str(), set.empty() ? set.why_empty() : ""};
}

/// The recipe's text was checked when it was read, so what is refused here is a latency that no table predicts yet.
Count count_of_recipe(const CostModel& costs, const std::string& budget, Deployable target) {
  try {
    return count_of(costs, {budget}, target);
  } catch (const InputError& error) {
    return {budget, budget, "0", error.what()};
  }
}

// Vector loops and GEMM tiles are 32 wide: other widths work, and cost up to 8 % (docs/performance.md).
std::vector<std::string> advice_for(const SearchSpace& space) {
  std::vector<std::string> advice;
  for (const int width : space.embed())
    if (width % 32 != 0)
      advice.push_back(fmt::format("embed {} is no multiple of 32: about 5 % slower than {}", width, (width + 31) / 32 * 32));
  return advice;
}

/// `elastiform space`: how large the space is, what its ends cost, and whether budgets can be met.
class SpaceCommand final : public Command {
 public:
  std::string_view name() const override { return "space"; }
  std::string_view help() const override { return "Size of a space, costs of its ends, whether budgets can be met"; }
  std::string_view example() const override { return "elastiform space experiments/recipes/demo.toml --budget parameters=..60%"; }
  void declare(Options& options) override {
    options.positional("run-or-recipe", path_, "Run folder or recipe");
    options.option("budget", budgets_, "Limit a cost, e.g. parameters=..2M; all must hold");
    options.option("deployable", deployable_, "Only what this export format can express: " + deployable_names());
  }
  int run(const CommonOptions& common) override {
    const auto recipe = load_recipe_or_run(path_);
    const auto costs = costs_of(recipe, path_);
    const auto target = deployable_ ? parse_deployable(*deployable_) : Deployable::any;
    check_deployable_tokenizer(recipe, target);
    const auto all = space_size(recipe.space).str();
    std::vector<Count> counts;
    if (!budgets_.empty() || target != Deployable::any) counts.push_back(count_of(costs, budgets_, target));
    else
      for (const auto& budget : recipe.search.budgets) counts.push_back(count_of_recipe(costs, budget, target));
    const ThreadPool pool(threads_of(common));
    const CpuBackend backend(pool, training_compute(recipe, Device::cpu).precision);
    const auto memory = Trainer::plan(recipe.space, recipe.train, recipe.stages, backend);
    if (common.json) print_json(recipe, costs, all, counts, memory.total());
    else print_text(recipe, costs, all, counts, memory.total());
    return 0;
  }

 private:
  void print_text(const Recipe& recipe, const CostModel& costs, const std::string& all, const std::vector<Count>& counts,
                  std::int64_t memory) const {
    fmt::print("{} subnets; costs under [deploy] {}\n\n", grouped(all), deploy_text(recipe.deploy));
    Table table(cost_header(metric_of(recipe.space.model()), costs.latency().has_value()));
    for (const auto& [name, subnet] : ends(recipe.space))
      table.row(cost_row(fmt::format("{}  {}", name, format(subnet)), costs.of(subnet)));
    fmt::print("{}\n", table.text());
    if (costs.latency()) fmt::print("latencies are predicted by {}\n", costs.latency()->origin);
    fmt::print(
        "training the supernet takes {} (weights, gradients, optimizer, activations, workspace); train adds what its live losses take\n",
        bytes_text(static_cast<double>(memory)));
    for (const auto& count : counts) {
      const auto same = count.typed == count.budget ? "" : count.typed + " is ";
      const auto what =
          fmt::format("{}{}{}{}", same, count.budget, deployable_ && !count.budget.empty() ? ", " : "", deployable_.value_or(""));
      if (count.why_empty.empty()) fmt::print("{}: {} feasible\n", what, grouped(count.feasible));
      else fmt::print("{}: none feasible: {}\n", what, count.why_empty);
    }
    for (const auto& line : advice_for(recipe.space)) fmt::print("advice: {}\n", line);
  }

  void print_json(const Recipe& recipe, const CostModel& costs, const std::string& all, const std::vector<Count>& counts,
                  std::int64_t memory) const {
    JsonObject object;
    object.add("size", all).add("deploy", deploy_text(recipe.deploy)).add("supernet_training_bytes", memory);
    if (costs.latency()) object.add("latency_table", costs.latency()->origin);
    for (const auto& [name, subnet] : ends(recipe.space)) object.add_json(name, cost_json(subnet, costs.of(subnet)).text());
    std::vector<std::string> list;
    for (const auto& count : counts) {
      JsonObject entry;
      entry.add("budget", count.budget).add("deployable", deployable_.value_or("any")).add("feasible", count.feasible);
      if (!count.why_empty.empty()) entry.add("why_empty", count.why_empty);
      list.push_back(entry.text());
    }
    fmt::print("{}\n", object.add_json("budgets", json_list(list)).text());
  }

  static std::vector<std::pair<std::string, Subnet>> ends(const SearchSpace& space) {
    return {{"smallest", space.smallest()}, {"middle", space.middle()}, {"largest", space.largest()}};
  }

  std::string path_;
  std::vector<std::string> budgets_;
  std::optional<std::string> deployable_;
};

}  // namespace

std::unique_ptr<Command> make_space_command() { return std::make_unique<SpaceCommand>(); }

}  // namespace elastiform
