#include "trainers/running_stages.hpp"

#include <algorithm>
#include <string>

#include "supernet/patch_decoder.hpp"
#include "trainers/step_rules/step_rule.hpp"

namespace elastiform {

bool needs_teacher(std::span<const RunningStage> stages) {
  return std::any_of(stages.begin(), stages.end(), [](const RunningStage& stage) { return stage.objective->needs_teacher(); });
}

Masking masking_of(const SearchSpace& space, const TrainOptions& options, const Objective& objective) {
  if (objective.mask_ratio() == 0) return {};
  const ModelConfig& model = space.model();
  const std::string where = "recipe: stage.objective = \"masked_patches\"";
  if (!model.classifies())
    throw InputError({where, "a classifier of images", "a language model", "a causal decoder gains nothing from it"});
  if (!model.decoder.present())
    throw InputError(
        {where, "a model with a decoder, which guesses what is hidden", "none",
         "in a recipe of elastiform train set model.decoder_embed, decoder_depth and decoder_heads, e.g. to half the largest subnet's"});
  if (find_step_rule(options.step_rule).sharpest_of(options) > 0)
    throw InputError({where, "a step rule that passes whole batches: losses of single sequences are those of their labels",
                      "train.step_rule = \"" + options.step_rule + "\" with sharp_share below 1", "use sharp_share = 1"});
  const int hidden = masked_patches(model, objective.mask_ratio()), patches = model.image.patches();
  if (hidden < 1 || hidden >= patches)
    throw InputError({"recipe: stage.mask_ratio",
                      "some hidden patches of the image's " + std::to_string(patches) + ", and some that are seen",
                      std::to_string(hidden) + " hidden ones", ""});
  return {hidden, objective.normalizes_patches()};
}

std::vector<RunningStage> make_stages(const SearchSpace& space, const TrainOptions& options, const std::vector<Stage>& stages) {
  std::vector<RunningStage> running;
  std::int64_t begin = 0;
  for (const Stage& stage : stages) {
    RunningStage one{begin, begin + stage.steps, make_sampler(space, stage, options.seed), make_objective(stage), {}};
    one.masking = masking_of(space, options, *one.objective);
    if (one.objective->needs_largest() && !one.sampler->always_has_largest())
      throw InputError({"recipe: stage", "a sampler that trains the largest subnet in every step (sandwich)",
                        "sampler \"" + stage.sampler + "\" with objective \"" + stage.objective + '"', ""});
    if (one.objective->needs_teacher() && !options.teacher)
      throw InputError({"recipe: stage", "a run with a teacher for objective \"" + stage.objective + '"', "none",
                        "elastiform import keeps the imported network as one, finetune --subnet --distill the run's largest"});
    one.sampler = with_ranks(std::move(one.sampler), space, options.seed, one.objective->needs_largest());
    begin = one.end;
    running.push_back(std::move(one));
  }
  return running;
}

}  // namespace elastiform
