#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/elastiform/recipe.hpp"

namespace elastiform {

/// What all arms of an experiment have alike; the schedule of each is decayed to its end inside it.
enum class EqualBudget : std::uint8_t { steps, tokens, flops, seconds };

/// One way to train.
struct Arm {
  std::string name;
  std::string recipe;            // path of its own base recipe; "": the experiment's
  std::vector<std::string> set;  // "table.key=value", after the experiment's own
  std::vector<double> rates;     // of which the best on the search split is chosen; none: the recipe's, untuned
};

/// An experiment file (docs/compare.md): arms over one recipe, the first of which is the baseline.
struct Experiment {
  std::string path, recipe;  // recipe: path of the base recipe, as this process opens it
  std::vector<std::string> set;
  std::vector<std::string> subnets;  // scored; the first decides which rate is best
  EqualBudget equal = EqualBudget::tokens;
  std::int64_t seeds = 5;
  double margin = 0.01;  // bits/byte, fixed before any run
  std::vector<Arm> arms;

  static Experiment load(const std::string& path, const std::vector<std::string>& overrides);
  std::string text() const;  // every value that decides the result; load() of equal files gives equal texts

  const std::string& recipe_path(const Arm& arm) const { return arm.recipe.empty() ? recipe : arm.recipe; }
  /// What an arm is trained with.
  Recipe recipe_of(const Arm& arm, const std::vector<std::string>& further) const;
  std::vector<std::string> settings_of(const Arm& arm, const std::vector<std::string>& further) const;
};

std::string_view name_of(EqualBudget equal);

}  // namespace elastiform
