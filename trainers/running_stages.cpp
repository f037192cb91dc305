#include "trainers/running_stages.hpp"

#include <algorithm>

namespace elastiform {

bool needs_teacher(std::span<const RunningStage> stages) {
  return std::any_of(stages.begin(), stages.end(), [](const RunningStage& stage) { return stage.objective->needs_teacher(); });
}

std::vector<RunningStage> make_stages(const SearchSpace& space, const TrainOptions& options, const std::vector<Stage>& stages) {
  std::vector<RunningStage> running;
  std::int64_t begin = 0;
  for (const Stage& stage : stages) {
    RunningStage one{begin, begin + stage.steps, make_sampler(space, stage, options.seed), make_objective(stage)};
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
