#include "experiments/elastiform/resume_check.hpp"

#include <fmt/core.h>

#include <map>
#include <string_view>

#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/recipe_document.hpp"
#include "kernels/errors.hpp"
#include "trainers/schedules/schedule.hpp"

namespace elastiform {
namespace {

// "stage.1.rate" -> value as shown; leaves of the document, lists included.
void flatten(const RecipeValue& value, const std::string& name, std::map<std::string, std::string>& leaves) {
  using Kind = RecipeValue::Kind;
  if (value.kind != Kind::table && value.kind != Kind::list) {
    leaves[name] = value.shown();
    return;
  }
  for (std::size_t i = 0; i < value.items.size(); ++i) {
    const auto key = value.kind == Kind::table ? value.keys[i] : std::to_string(i);
    flatten(value.items[i], name.empty() ? key : name + "." + key, leaves);
  }
}

std::map<std::string, std::string> leaves_of(const Recipe& recipe) {
  std::map<std::string, std::string> leaves;
  flatten(parse_recipe_document(recipe.text(), "resolved", {}), "", leaves);
  return leaves;
}

/// The first key on which the two differ, of those that matter(key), is refused.
template <class Matters>
void refuse_differences(const Recipe& before, const Recipe& recipe, const std::string& path, const std::string& remedy, Matters&& matters) {
  const auto expected = leaves_of(before), found = leaves_of(recipe);
  auto all = found;
  all.insert(expected.begin(), expected.end());
  for (const auto& entry : all) {
    const auto& key = entry.first;
    if (!matters(key)) continue;
    const auto shown = [&](const std::map<std::string, std::string>& leaves) {
      const auto at = leaves.find(key);
      return at == leaves.end() ? std::string("nothing") : at->second;
    };
    if (shown(expected) != shown(found))
      throw InputError({fmt::format("{}: {}", path, key), fmt::format("{} (what the checkpoint was trained with)", shown(expected)),
                        shown(found), remedy});
  }
}

}  // namespace

void refuse_settings(const std::vector<std::string>& set) {
  for (const auto& text : set) {
    const auto key = text.substr(0, text.find('='));
    if (key != "train.checkpoint_every" && !is_data_path(key))
      throw InputError(
          {"elastiform train --resume",
           "only train.checkpoint_every or where the data are (data.text, data.tokenizer, data.images, data.labels) to be --set", key,
           "start a new run to change it"});
  }
}

void lengthen(Recipe& recipe, std::int64_t steps, std::int64_t trained) {
  auto& train = recipe.train;
  if (steps == train.steps) return;
  const auto where = "elastiform train --resume: --steps";
  if (steps < train.steps) throw InputError({where, fmt::format("at least the run's {}", train.steps), std::to_string(steps), ""});
  if (train.schedule == "cosine")
    throw InputError({where, "a schedule that can be lengthened: constant or wsd", "cosine", "start a new run with more steps"});
  if (train.schedule == "wsd" && trained > cooldown_begin(train))
    throw InputError({where, fmt::format("a checkpoint before the decay began at step {}", cooldown_begin(train)),
                      fmt::format("one of step {}", trained), "start a new run with more steps"});
  const double warmup = static_cast<double>(warmup_steps(train));
  recipe.stages.back().steps += steps - train.steps;
  train.steps = steps;
  train.warmup = warmup / static_cast<double>(steps);
  for (auto& stage : recipe.stages) stage.share = static_cast<double>(stage.steps) / static_cast<double>(steps);
}

void refuse_changes(const Recipe& recipe, const std::string& checkpoint_toml, std::int64_t trained, const std::string& path) {
  auto before = Recipe::parse(checkpoint_toml, path + " of the checkpoint");
  // --steps writes the longer recipe at once; a run killed before its next checkpoint stands between the two.
  if (recipe.train.steps > before.train.steps) lengthen(before, recipe.train.steps, trained);
  refuse_differences(before, recipe, path, "change it back, or start a new run",
                     [](const std::string& key) { return !is_data_path(key) && key != "train.checkpoint_every"; });
}

void refuse_changed_data(const Recipe& recipe, const std::string& checkpoint_toml, const std::string& path) {
  refuse_differences(Recipe::parse(checkpoint_toml, path + " of the checkpoint"), recipe, path, "change it back",
                     [](const std::string& key) { return key.starts_with("data.") && !is_data_path(key); });
}

}  // namespace elastiform
