#include "trainers/running_stages.hpp"

namespace elastiform {

std::vector<RunningStage> make_stages(const SearchSpace& space, const TrainOptions& options, const std::vector<Stage>& stages) {
  std::vector<RunningStage> running;
  std::int64_t begin = 0;
  for (const Stage& stage : stages) {
    RunningStage one{begin, begin + stage.steps, make_sampler(space, stage, options.seed), make_objective(stage)};
    if (one.objective->needs_largest() && !one.sampler->always_has_largest())
      throw InputError({"recipe: stage", "a sampler that trains the largest subnet in every step (sandwich)",
                        "sampler \"" + stage.sampler + "\" with objective \"" + stage.objective + '"', ""});
    one.sampler = with_ranks(std::move(one.sampler), space, options.seed, one.objective->needs_largest());
    begin = one.end;
    running.push_back(std::move(one));
  }
  return running;
}

}  // namespace elastiform
