#include "experiments/elastiform/compare/experiment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>

#include "experiments/elastiform/recipe_document.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"

namespace elastiform {
namespace {

constexpr std::array<std::string_view, 4> kEqual{"steps", "tokens", "flops", "seconds"};
constexpr std::size_t kMostArms = 64, kMostRates = 16, kMostName = 40, kMostBytes = 1 << 20;

// A name is part of paths and of a table's cells.
void check_name(const std::string& name, const std::string& place, const std::vector<Arm>& others) {
  const auto legal = [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.'; };
  if (name.empty() || name.size() > kMostName || name.front() == '.' || !std::ranges::all_of(name, legal))
    throw InputError({place, fmt::format("1 to {} letters, digits, - _ or . inside", kMostName), "'" + name + "'", ""});
  for (const Arm& other : others)
    if (other.name == name) throw InputError({place, "a name that no other arm has", name, ""});
}

std::string beside(const std::string& path, const std::string& other) {
  return other.empty() ? "" : (std::filesystem::path(path).parent_path() / other).lexically_normal().string();
}

Arm read_arm(TableReader& table, const std::string& path, const std::vector<Arm>& others) {
  table.require("name");
  Arm arm;
  arm.name = table.text("name", "");
  check_name(arm.name, table.place("name"), others);
  arm.recipe = beside(path, table.text("recipe", ""));
  arm.set = table.texts("set");
  arm.rates = table.numbers("rates", 1e-12, 100);
  if (arm.rates.size() > kMostRates)
    throw InputError({table.place("rates"), fmt::format("at most {} rates", kMostRates), std::to_string(arm.rates.size()), ""});
  table.finish();
  return arm;
}

std::vector<Arm> read_arms(const RecipeValue& document, const std::string& path) {
  const RecipeValue* list = document.find("arm");
  if (list == nullptr || list->kind != RecipeValue::Kind::list || list->items.size() < 2 || list->items.size() > kMostArms)
    throw InputError({"experiment " + path + ": arm", fmt::format("2 to {} tables [[arm]], the baseline first", kMostArms),
                      list == nullptr ? "none" : list->shown(), "see docs/compare.md"});
  std::vector<Arm> arms;
  for (std::size_t i = 0; i < list->items.size(); ++i) {
    TableReader table(&list->items[i], fmt::format("arm.{}", i), path);
    arms.push_back(read_arm(table, path, arms));
  }
  // Tuned alike: as many rates for each, or for none.
  for (const Arm& arm : arms)
    if (arm.rates.size() != arms.front().rates.size())
      throw InputError({"experiment " + path + ": arm " + arm.name + ": rates",
                        fmt::format("{}, as many as {} has", arms.front().rates.size(), arms.front().name),
                        std::to_string(arm.rates.size()), "arms are tuned alike"});
  return arms;
}

// Settings that belong to the experiment itself.
void refuse_own_settings(const std::vector<std::string>& set, const std::string& where, bool tuned) {
  for (const std::string& one : set) {
    const std::string key = one.substr(0, one.find('='));
    if (key == "train.seed") throw InputError({where, "no train.seed: seeds are the experiment's", one, "see seeds"});
    if (key == "train.rate" && tuned) throw InputError({where, "no train.rate beside rates", one, "leave one of them out"});
  }
}

// Losses of other bytes, or of other splits of them, cannot be paired.
void require_same_data(const DataOptions& data, const DataOptions& baseline, const std::string& where) {
  const auto shown = [](const DataOptions& one) {
    return fmt::format("{}, {}, splits {}, blocks of {}", std::filesystem::weakly_canonical(one.text).string(), one.tokenizer,
                       fmt::join(one.splits, ":"), one.split_block);
  };
  if (shown(data) != shown(baseline))
    throw InputError({where + ": data", shown(baseline) + ", as the first arm has", shown(data), "compare arms on one text"});
}

}  // namespace

std::string_view name_of(EqualBudget equal) { return kEqual[static_cast<std::size_t>(equal)]; }

Experiment Experiment::load(const std::string& path, const std::vector<std::string>& overrides) {
  namespace fs = std::filesystem;
  if (std::error_code error; !fs::is_regular_file(path, error))
    throw InputError({"experiment " + path, "a TOML file", fs::exists(path, error) ? "something else" : "nothing", "see docs/compare.md"});
  const RecipeValue document = parse_recipe_document(read_small_file(path, kMostBytes), path, {});
  TableReader table(&document, "", path);
  Experiment experiment;
  experiment.path = path;
  table.require("recipe");
  experiment.recipe = beside(path, table.text("recipe", ""));
  experiment.set = table.texts("set");
  // Typed ones last: they win.
  experiment.set.insert(experiment.set.end(), overrides.begin(), overrides.end());
  experiment.subnets = table.texts("subnets");
  if (experiment.subnets.empty()) experiment.subnets = {"middle", "largest"};
  const std::string equal = table.choice("equal", "tokens", {kEqual.begin(), kEqual.end()});
  experiment.equal = static_cast<EqualBudget>(std::ranges::find(kEqual, equal) - kEqual.begin());
  experiment.seeds = table.integer("seeds", experiment.seeds, 2, 100);
  experiment.margin = table.number("margin", experiment.margin, 0, 8);
  table.has("arm");
  table.finish();
  experiment.arms = read_arms(document, path);

  // Every arm is read before the first is trained.
  refuse_own_settings(experiment.set, "experiment " + path + ": set", !experiment.arms.front().rates.empty());
  for (const Arm& arm : experiment.arms) {
    refuse_own_settings(arm.set, "experiment " + path + ": arm " + arm.name, !arm.rates.empty());
    const Recipe recipe = experiment.recipe_of(arm, {});
    require_same_data(recipe.data, experiment.recipe_of(experiment.arms.front(), {}).data, "experiment " + path + ": arm " + arm.name);
    for (const std::string& subnet : experiment.subnets) parse_subnet_of(recipe.space, subnet, "experiment " + path + ": subnets");
  }
  return experiment;
}

std::vector<std::string> Experiment::settings_of(const Arm& arm, const std::vector<std::string>& further) const {
  std::vector<std::string> all = set;
  all.insert(all.end(), arm.set.begin(), arm.set.end());
  all.insert(all.end(), further.begin(), further.end());
  return all;
}

Recipe Experiment::recipe_of(const Arm& arm, const std::vector<std::string>& further) const {
  try {
    return Recipe::load(recipe_path(arm), settings_of(arm, further));
  } catch (const InputError& error) {
    auto parts = error.parts();
    parts.where = fmt::format("experiment {}: arm {}: {}", path, arm.name, parts.where);
    throw InputError(parts);
  }
}

std::string Experiment::text() const {
  std::string text = fmt::format("equal={} seeds={} margin={} subnets={}\n", name_of(equal), seeds, margin, fmt::join(subnets, ";"));
  for (const Arm& arm : arms) text += fmt::format("{} rates={}\n{}\n", arm.name, fmt::join(arm.rates, ","), recipe_of(arm, {}).text());
  return text;
}

}  // namespace elastiform
