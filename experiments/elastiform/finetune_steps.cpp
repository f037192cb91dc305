#include "experiments/elastiform/finetune_steps.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/recipe_tuning.hpp"
#include "experiments/elastiform/teacher_file.hpp"
#include "kernels/errors.hpp"
#include "supernet/parametrizations/merge.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {
namespace {

Tuning tuning_for(const FinetuneRequest& request, const ModelConfig& model) {
  const ParametrizationEntry& method = find_parametrization(request.method, request.where + ": --method");
  const auto refuse = [&](const char* option) {
    throw InputError(
        {request.where + ": " + option, "a method that takes it", "--method " + request.method, std::string("leave ") + option + " out"});
  };
  Tuning tuning;
  tuning.method = method.method;
  if (!method.how->has_rank() && request.rank) refuse("--rank");
  if (!method.how->has_rank() && request.ranks) refuse("--ranks");
  if (request.rank && request.ranks)
    throw InputError({request.where + ": --ranks", "one of --rank and --ranks", "both", "leave --rank out: it is the last of --ranks"});
  if (!method.how->has_rank() && request.alpha) refuse("--alpha");
  if (!method.how->has_width() && request.width) refuse("--width");
  if (!method.how->has_keys() && request.keys) refuse("--keys");
  if (!method.how->has_tokens() && request.tokens) refuse("--tokens");
  if (!method.how->has_targets() && request.targets) refuse("--targets");
  const auto whole = [](std::int64_t value) { return static_cast<int>(std::min<std::int64_t>(value, INT32_MAX)); };
  if (method.how->has_rank()) tuning.rank = whole(request.rank.value_or(kUsualRank)), tuning.alpha = request.alpha.value_or(kUsualAlpha);
  if (request.ranks) tuning.ranks = parse_ranks(*request.ranks, request.where + ": --ranks"), tuning.rank = tuning.ranks.back();
  if (method.how->has_width()) tuning.width = whole(request.width.value_or(kUsualWidth));
  if (method.how->has_keys()) tuning.keys = whole(request.keys.value_or(kUsualKeys));
  if (method.how->has_tokens()) tuning.tokens = whole(request.tokens.value_or(kUsualTokens));
  if (method.how->has_targets()) tuning.targets = parse_targets(request.targets.value_or(""), model, request.where + ": --targets");
  return tuning;
}

std::vector<Stage> stages_of(const FinetuneRequest& request) {
  Stage stage;
  if (request.subnet) stage.sampler = "largest", stage.objective = request.distill ? "labels+teacher" : stage.objective;
  else if (request.distill) stage.sampler = "sandwich", stage.objective = "labels+largest";
  else stage.largest = 0.25, stage.smallest = 0.125;
  return {stage};
}

/// Another optimizer's usual rate is its own.
void take_defaults_of_optimizer(const FinetuneRequest& request, TrainOptions& train) {
  constexpr std::string_view kKey = "train.optimizer=";
  for (const std::string& one : request.set) {
    if (!one.starts_with(kKey) || one.substr(kKey.size()) == train.optimizer) continue;
    const TrainOptions usual;
    train.optimizer = one.substr(kKey.size());
    train.rate = usual.rate, train.decay = usual.decay, train.beta1 = usual.beta1, train.beta2 = usual.beta2, train.eps = usual.eps;
    find_optimizer(train.optimizer).set_defaults(train);
  }
}

}  // namespace

void check_tunable(const Run& from, const std::string& where) {
  if (const Tuning& before = from.space().model().tuning; before.method != TuningMethod::full)
    throw InputError({where, "a run whose weights are a plain network's",
                      fmt::format("{}, tuned with {}, which does not merge", from.name(), parametrization_of(before).name),
                      "tune the run that it came from"});
}

LoadedSupernet finetune_base(const Run& from, const std::optional<Subnet>& subnet) {
  const LoadedSupernet& all = from.supernet();
  if (!subnet)
    return {all.space, merged(all.weights), all.recipe_toml, all.data_sha256, weights_hash(all.weights), all.steps, all.identity};
  Weights weights = extract(all.weights, *subnet);
  std::string hash = weights_hash(weights);
  return {weights.table().space(), std::move(weights), all.recipe_toml, all.data_sha256, std::move(hash), all.steps, all.identity};
}

Recipe finetune_recipe(const Run& from, const LoadedSupernet& base, const FinetuneRequest& request) {
  check_tunable(from, request.where);
  Recipe recipe = from.recipe();
  take_defaults_of_optimizer(request, recipe.train);
  recipe.space = tuned_space(base.space, tuning_for(request, base.space.model()), request.where);
  recipe.base = base.weights_hash;
  recipe.train.steps = request.steps;
  recipe.train.rate = request.rate.value_or(recipe.train.rate * parametrization_of(recipe.space.model().tuning).usual_rate);
  recipe.stages = stages_of(request);
  resolve_stages(recipe.stages, recipe.train.steps);
  recipe.train.teacher.reset(), recipe.teacher.clear();  // finetune_teacher names the one that it has
  if (request.subnet) recipe.search.budgets.clear();     // of a space with other subnets
  if (request.text && has_images(recipe.data))
    throw InputError(
        {request.where + ": --text", "a run of a language model", "a classifier of images", "--set data.images=PATH names other images"});
  if (request.text) recipe.data.text = *request.text;
  const Recipe changed = Recipe::parse(recipe.text(), request.where, request.set, true);
  const bool other_teacher = changed.teacher != recipe.teacher || changed.train.teacher != recipe.train.teacher;
  if (changed.base != recipe.base || other_teacher || changed.space != recipe.space)
    throw InputError({request.where + ": --set", "keys of [data], [train], [[stage]], [deploy] and [search]",
                      "one that changes the network or its tuning",
                      "a run's network stays as it is; of its tuning --method, --rank and the like decide"});
  return changed;
}

std::optional<LoadedSupernet> finetune_teacher(const Run& from, Recipe& recipe) {
  if (!needs_teacher(recipe)) return std::nullopt;
  const LoadedSupernet& now = from.supernet();
  std::optional<LoadedSupernet> teacher(from.recipe().train.teacher
                                            ? load_teacher(from.recipe(), from.paths())
                                            : teacher_of(now.weights, now.recipe_toml, now.data_sha256, now.steps, now.identity));
  take_teacher(recipe, teacher->space.largest(), teacher->weights_hash);
  return teacher;
}

}  // namespace elastiform
