#pragma once

#include <memory>

#include "experiments/elastiform/recipe.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "trainers/checkpoint.hpp"

namespace elastiform {

/// The largest subnet of `weights` as a teacher: what `import` keeps of a checkpoint, or `finetune` of a run. The file says of which recipe and
/// data it was, after how many steps, and which build made it.
LoadedSupernet teacher_of(const Weights& weights, const std::string& recipe_toml, const std::string& data_sha256, std::int64_t steps,
                          const BuildIdentity& build);

/// teacher.h5 of a run. InputError unless it holds the network that the recipe names, by its SHA-256.
LoadedSupernet load_teacher(const Recipe& recipe, const RunPaths& paths);

/// Makes `teacher` the one of a recipe.
void take_teacher(Recipe& recipe, const LoadedSupernet& teacher);

/// What a Trainer of that recipe is given: nothing where no stage learns from a teacher, else a copy of `made`, or what the run has.
std::unique_ptr<const Weights> weights_of_teacher(const Recipe& recipe, const RunPaths& paths, const LoadedSupernet* made);

}  // namespace elastiform
