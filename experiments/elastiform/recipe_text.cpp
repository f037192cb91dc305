#include <fmt/core.h>

#include "experiments/elastiform/recipe.hpp"
#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/recipe_space.hpp"
#include "experiments/elastiform/recipe_tuning.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/step_rules/step_rule.hpp"

namespace elastiform {
namespace {

std::string train_table(const TrainOptions& train, const ModelConfig& model) {
  std::string text =
      fmt::format("[train]\nsteps = {}\nsequences = {}\naccumulation = {}\nseed = {}\nprecision = {}\noptimizer = {}\n", train.steps,
                  train.sequences, train.accumulation, train.seed, toml_text(train.precision), toml_text(train.optimizer));
  if (uses_init(model)) text += fmt::format("init = {}\n", toml_text(train.init));
  if (uses_loss_scale(train)) text += fmt::format("loss_scale = {}\n", train.loss_scale);
  if (uses_fp8_window(train)) text += fmt::format("fp8_window = {}\n", train.fp8_window);
  text += fmt::format("activations = {}\n", toml_text(train.activations));
  if (uses_activation_bytes(train) && train.activation_bytes > 0) text += fmt::format("activation_bytes = {}\n", train.activation_bytes);
  text += fmt::format("rate = {}\n", train.rate);
  const OptimizerEntry& optimizer = find_optimizer(train.optimizer);
  const auto add = [&](const char* key, const auto& value) {
    if (optimizer.reads(key)) text += fmt::format("{} = {}\n", key, value);
  };
  add("beta1", train.beta1), add("beta2", train.beta2), add("eps", train.eps);
  add("momentum", train.momentum), add("nesterov", train.nesterov), add("trust", train.trust);
  text += fmt::format("decay = {}\npolicy = {}\n", train.decay, toml_text(train.policy));
  if (scales_rate(train)) text += fmt::format("scale_rate = {}\nbase_sequences = {}\n", toml_text(train.scale_rate), train.base_sequences);
  const StepRuleEntry& rule = find_step_rule(train.step_rule);
  const auto add_of_rule = [&](const char* key, const auto& value) {
    if (rule.reads(key)) text += fmt::format("{} = {}\n", key, value);
  };
  text += fmt::format("step_rule = {}\n", toml_text(train.step_rule));
  add_of_rule("rho", train.rho), add_of_rule("adaptive", train.adaptive);
  add_of_rule("look_every", train.look_every), add_of_rule("look_share", train.look_share);
  add_of_rule("uphill_share", train.uphill_share), add_of_rule("sharp_share", train.sharp_share);
  text += fmt::format("dropout = {}\nlabel_smoothing = {}\n", train.dropout, train.label_smoothing);
  if (model.classifies()) {
    const Augmentation& a = train.augmentation;
    text += fmt::format("crop = {}\nflip = {}\nmixup = {}\ncutmix = {}\n", a.crop, a.flip, a.mixup, a.cutmix);
  }
  text += fmt::format("ema = {}\nnoise_scale = {}\n", train.ema, train.noise_scale);
  if (uses_band_warmup(train)) text += fmt::format("band_warmup = {}\n", train.band_warmup);
  text += fmt::format("schedule = {}\nwarmup = {}\n", toml_text(train.schedule), train.warmup);
  if (uses_cooldown(train)) text += fmt::format("cooldown = {}\n", train.cooldown);
  if (uses_final_rate(train)) text += fmt::format("final_rate = {}\n", train.final_rate);
  text += fmt::format("tokens = {}\n", toml_text(train.tokens));
  if (uses_tokens_kept(train)) text += fmt::format("tokens_kept = {}\ntokens_step = {}\n", train.tokens_kept, train.tokens_step);
  if (uses_tokens_full(train)) text += fmt::format("tokens_full = {}\n", train.tokens_full);
  return text + fmt::format("clip = {}\nlog_every = {}\nlog_segments = {}\ncheckpoint_every = {}\n\n", train.clip, train.log_every,
                            train.log_segments, train.checkpoint_every);
}

std::string stage_table(const Stage& stage) {
  std::string text = fmt::format("[[stage]]\nshare = {}\nsteps = {}\nsampler = {}\n", stage.share, stage.steps, toml_text(stage.sampler));
  if (uses_ends(stage)) text += fmt::format("largest = {}\nsmallest = {}\n", stage.largest, stage.smallest);
  if (uses_random(stage)) text += fmt::format("random = {}\n", stage.random);
  text += fmt::format("objective = {}\n", toml_text(stage.objective));
  const ObjectiveEntry& objective = find_objective(stage.objective);
  if (objective.reads("teacher_weight")) text += fmt::format("teacher_weight = {}\n", stage.teacher_weight);
  if (objective.reads("temperature")) text += fmt::format("temperature = {}\n", stage.temperature);
  if (objective.reads("hidden_weight")) text += fmt::format("hidden_weight = {}\n", stage.hidden_weight);
  if (objective.reads("mask_ratio"))
    text += fmt::format("mask_ratio = {}\nnormalize_patches = {}\n", stage.mask_ratio, stage.normalize_patches);
  return text + "\n";
}

std::string search_table(const SearchOptions& search) {
  std::string text = fmt::format(
      "[search]\nalgorithm = {}\nevaluations = {}\nround_size = {}\npopulation = {}\ntournament = {}\nfounders = {}\n",
      toml_text(search.algorithm), search.evaluations, search.round_size, search.population, search.tournament, search.founders);
  text += fmt::format("law = {}\nseed = {}\nsegments = {}\nstride = {}\nbudgets = ", toml_text(search.law), search.seed, search.segments,
                      search.stride);
  return text +
         toml_list(
             search.budgets, +[](const std::string& budget) { return toml_text(budget); }) +
         "\n";
}

}  // namespace

std::string Recipe::text() const {
  std::string text = data_table(data);
  text += space_tables(space) + "\n" + tune_table(space.model().tuning, base) + teacher_table(train, teacher) +
          train_table(train, space.model());
  for (const auto& stage : stages) text += stage_table(stage);
  text += fmt::format("[deploy]\ndtype = {}\nbatch = {}\ncontext = {}\nphase = {}\nthreads = {}\n\n", toml_text(deploy.dtype), deploy.batch,
                      deploy.context, toml_text(deploy.phase), deploy.threads);
  return text + search_table(search);
}

}  // namespace elastiform
