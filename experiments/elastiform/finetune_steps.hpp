#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/elastiform/run_folder.hpp"

namespace elastiform {

/// How a run, or one subnet of it, is tuned into a run of its own (docs/finetune.md).
struct FinetuneRequest {
  std::string where;  // names the command in errors
  std::optional<Subnet> subnet = {};
  std::string method = "lora";
  std::optional<std::int64_t> rank = {}, width = {}, keys = {}, tokens = {};
  std::optional<double> alpha = {}, rate = {};
  std::optional<std::string> ranks = {}, targets = {}, text = {};
  std::int64_t steps = 500;
  bool distill = false;
  std::vector<std::string> set = {};  // table.key=value of the new recipe
};

/// Throws InputError for a run whose own tuning is no part of its weights, so that none can go on from there.
void check_tunable(const Run& from, const std::string& where);

/// What the tuning begins with: the run's supernet, or the subnet alone, cut out.
LoadedSupernet finetune_base(const Run& from, const std::optional<Subnet>& subnet);

/// The run's recipe with what is asked for; `set` comes last, as everywhere. Throws InputError for what does not go together.
Recipe finetune_recipe(const Run& from, const LoadedSupernet& base, const FinetuneRequest& request);

/// What the recipe's stages learn from, if they do: the run's own teacher, or its largest subnet as it is now. The recipe then names it.
std::optional<LoadedSupernet> finetune_teacher(const Run& from, Recipe& recipe);

}  // namespace elastiform
