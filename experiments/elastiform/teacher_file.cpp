#include "experiments/elastiform/teacher_file.hpp"

#include <utility>

#include "kernels/errors.hpp"
#include "trainers/frozen_teacher.hpp"

namespace elastiform {

LoadedSupernet teacher_of(const Weights& weights, const std::string& recipe_toml, const std::string& data_sha256, std::int64_t steps,
                          const BuildIdentity& build) {
  Weights alone = extract(weights, weights.table().space().largest());
  const SearchSpace space = alone.table().space();
  std::string hash = weights_hash(alone);
  return {space, std::move(alone), recipe_toml, data_sha256, std::move(hash), steps, build};
}

LoadedSupernet load_teacher(const Recipe& recipe, const RunPaths& paths) {
  LoadedSupernet teacher = load_supernet(paths.teacher());
  if (teacher.weights_hash != recipe.teacher)
    throw InputError({paths.teacher(), "the teacher that the run began with, SHA-256 " + recipe.teacher.substr(0, 16),
                      teacher.weights_hash.substr(0, 16), "restore the run's teacher.h5"});
  const Subnet& wanted = *recipe.train.teacher;
  // An import's file holds a supernet, whose largest subnet is what was imported.
  if (const SearchSpace& held = teacher.space; held != teacher_space(held.model(), held.largest()))
    teacher = teacher_of(teacher.weights, teacher.recipe_toml, teacher.data_sha256, teacher.steps, teacher.identity);
  if (teacher.space != teacher_space(recipe.space.model(), wanted))
    throw InputError({paths.teacher(), "a network of the recipe's model, " + format(wanted), format(teacher.space.largest()),
                      "restore the run's teacher.h5 and recipe.toml"});
  return teacher;
}

void take_teacher(Recipe& recipe, Subnet subnet, std::string hash) {
  recipe.train.teacher = std::move(subnet);
  recipe.teacher = std::move(hash);
}

std::unique_ptr<const Weights> weights_of_teacher(const Recipe& recipe, const RunPaths& paths, const LoadedSupernet* made) {
  // A recipe that names none is refused by the trainer, which says what would have one.
  if (!needs_teacher(recipe) || !recipe.train.teacher) return nullptr;
  if (made != nullptr) return std::make_unique<const Weights>(copied(made->weights));
  return std::make_unique<const Weights>(load_teacher(recipe, paths).weights);
}

}  // namespace elastiform
