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

/// The network in a run's teacher.h5, which holds it alone or, after an import, a supernet whose largest subnet it is. InputError unless these are
/// the weights that the recipe names, by their SHA-256.
LoadedSupernet load_teacher(const Recipe& recipe, const RunPaths& paths);

/// Makes this network the teacher of a recipe. hash: of the weights in the file that teacher.h5 is to be.
void take_teacher(Recipe& recipe, Subnet subnet, std::string hash);

/// What a Trainer of that recipe is given: nothing where no stage learns from a teacher, else a copy of `made`, or what the run has.
std::unique_ptr<const Weights> weights_of_teacher(const Recipe& recipe, const RunPaths& paths, const LoadedSupernet* made);

}  // namespace elastiform
