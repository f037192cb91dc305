#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/export_steps.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/subnet_output.hpp"
#include "kernels/errors.hpp"
#include "search/feasible_set.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kMostDraws = 1'000'000;
constexpr std::int64_t kListed = 10'000'000;  // members that are listed when draws only repeat

// When a draw finds only what it has, nearly everything under the law is taken: the rest is drawn uniformly from what remains.
void fill_from_rest(const FeasibleSet& set, std::size_t count, std::uint64_t seed, std::set<Subnet>& seen, std::vector<Subnet>& drawn) {
  RandomStream random(seed, Purpose::sample, kMostDraws * 200);
  if (set.count() > kListed) {
    for (std::size_t tries = 0; drawn.size() < count && tries < 64 * count; ++tries)
      if (auto subnet = set.draw(Law::uniform, random); seen.insert(subnet).second) drawn.push_back(std::move(subnet));
    return;
  }
  std::vector<Subnet> rest;
  for (BigInt i = 0; i < set.count(); ++i)
    if (auto subnet = set.unrank(i); seen.find(subnet) == seen.end()) rest.push_back(std::move(subnet));
  while (drawn.size() < count && !rest.empty()) {
    std::swap(rest[random.below(rest.size())], rest.back());
    drawn.push_back(std::move(rest.back()));
    rest.pop_back();
  }
}

std::vector<Subnet> draw_subnets(const FeasibleSet& set, Law law, std::size_t count, std::uint64_t seed, bool replace) {
  std::vector<Subnet> drawn;
  std::set<Subnet> seen;
  const std::size_t most = replace ? count : 100 * count;
  for (std::size_t i = 0; i < most && drawn.size() < count; ++i) {
    RandomStream random(seed, Purpose::sample, i);
    auto subnet = set.draw(law, random);
    if (replace || seen.insert(subnet).second) drawn.push_back(std::move(subnet));
  }
  if (drawn.size() < count) fill_from_rest(set, count, seed, seen, drawn);
  return drawn;
}

/// `elastiform sample`: subnets drawn from a space or from a budget's part of it.
class SampleCommand final : public Command {
 public:
  std::string_view name() const override { return "sample"; }
  std::string_view help() const override { return "Draw subnets inside a budget"; }
  std::string_view example() const override {
    return "elastiform sample experiments/recipes/demo.toml --budget parameters=..60% --count 5";
  }
  void declare(Options& options) override {
    options.positional("run-or-recipe", path_, "Run folder or recipe");
    options.option("budget", budgets_, "Limit a cost, e.g. parameters=..2M; all must hold");
    options.option("deployable", deployable_, "Only what this export format can express: " + deployable_names());
    options.choice("law", law_, {"balanced", "uniform"}, "How subnets are drawn");
    options.option("count", count_, "Subnets to draw", 1);
    options.option("seed", seed_, "Equal seeds draw equal subnets", 0);
    options.flag("replace", replace_, "A subnet may be drawn more than once");
  }
  int run(const CommonOptions& common) override {
    const auto recipe = load_recipe_or_run(path_);
    const auto costs = costs_of(recipe, path_);
    const Deployable target = deployable_ ? parse_deployable(*deployable_) : Deployable::any;
    check_deployable_tokenizer(recipe, target);
    const FeasibleSet set(costs, Budget::parse(budgets_, costs), target);
    if (set.empty()) throw InputError({path_, "", set.why_empty(), ""});
    if (count_ > kMostDraws)
      throw InputError({"elastiform sample: --count", fmt::format("at most {}", kMostDraws), std::to_string(count_), ""});
    if (!replace_ && set.count() < count_)
      throw InputError({"elastiform sample: --count", fmt::format("at most the {} feasible subnets", set.count().str()),
                        std::to_string(count_), "or --replace"});
    const auto subnets = draw_subnets(set, parse_law(law_), static_cast<std::size_t>(count_), static_cast<std::uint64_t>(seed_), replace_);
    if (common.json) {
      std::vector<std::string> list;
      for (const auto& subnet : subnets) list.push_back(cost_json(subnet, costs.of(subnet)).text());
      JsonObject object;
      if (costs.latency()) object.add("latency_table", costs.latency()->origin);
      fmt::print("{}\n", object.add("feasible", set.count().str()).add("law", law_).add_json("subnets", json_list(list)).text());
      return 0;
    }
    const auto budget = set.budget().text();
    fmt::print("{} feasible{}; law {}, seed {}\n", grouped(set.count().str()), budget.empty() ? "" : " inside " + budget, law_, seed_);
    Table table(cost_header(metric_of(recipe.space.model()), costs.latency().has_value()));
    for (const auto& subnet : subnets) table.row(cost_row(format(subnet), costs.of(subnet)));
    fmt::print("{}", table.text());
    if (costs.latency()) fmt::print("latencies are predicted by {}\n", costs.latency()->origin);
    return 0;
  }

 private:
  std::string path_, law_ = "balanced";
  std::vector<std::string> budgets_;
  std::optional<std::string> deployable_;
  std::int64_t count_ = 1, seed_ = 0;
  bool replace_ = false;
};

}  // namespace

std::unique_ptr<Command> make_sample_command() { return std::make_unique<SampleCommand>(); }

}  // namespace elastiform
