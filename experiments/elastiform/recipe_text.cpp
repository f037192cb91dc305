#include <fmt/core.h>

#include "experiments/elastiform/recipe.hpp"
#include "experiments/elastiform/recipe_space.hpp"

namespace elastiform {
namespace {

std::string train_table(const TrainOptions& train) {
  std::string text =
      fmt::format("[train]\nsteps = {}\nsequences = {}\naccumulation = {}\nseed = {}\nprecision = {}\noptimizer = {}\n", train.steps,
                  train.sequences, train.accumulation, train.seed, toml_text(train.precision), toml_text(train.optimizer));
  text += fmt::format("rate = {}\nbeta1 = {}\nbeta2 = {}\neps = {}\ndecay = {}\npolicy = {}\n", train.rate, train.beta1, train.beta2,
                      train.eps, train.decay, toml_text(train.policy));
  text += fmt::format("dropout = {}\n", train.dropout);
  if (uses_band_warmup(train)) text += fmt::format("band_warmup = {}\n", train.band_warmup);
  text += fmt::format("schedule = {}\nwarmup = {}\n", toml_text(train.schedule), train.warmup);
  if (uses_cooldown(train)) text += fmt::format("cooldown = {}\n", train.cooldown);
  if (uses_final_rate(train)) text += fmt::format("final_rate = {}\n", train.final_rate);
  return text + fmt::format("clip = {}\nlog_every = {}\nlog_segments = {}\ncheckpoint_every = {}\n\n", train.clip, train.log_every,
                            train.log_segments, train.checkpoint_every);
}

std::string stage_table(const Stage& stage) {
  std::string text = fmt::format("[[stage]]\nshare = {}\nsteps = {}\nsampler = {}\n", stage.share, stage.steps, toml_text(stage.sampler));
  if (uses_ends(stage)) text += fmt::format("largest = {}\nsmallest = {}\n", stage.largest, stage.smallest);
  if (uses_random(stage)) text += fmt::format("random = {}\n", stage.random);
  text += fmt::format("objective = {}\n", toml_text(stage.objective));
  if (uses_teacher(stage)) text += fmt::format("teacher_weight = {}\ntemperature = {}\n", stage.teacher_weight, stage.temperature);
  return text + "\n";
}

std::string search_table(const SearchOptions& search) {
  std::string text = fmt::format("[search]\nalgorithm = {}\nevaluations = {}\nround_size = {}\npopulation = {}\ntournament = {}\n",
                                 toml_text(search.algorithm), search.evaluations, search.round_size, search.population, search.tournament);
  text += fmt::format("law = {}\nseed = {}\nsegments = {}\nstride = {}\nbudgets = ", toml_text(search.law), search.seed, search.segments,
                      search.stride);
  return text +
         toml_list(
             search.budgets, +[](const std::string& budget) { return toml_text(budget); }) +
         "\n";
}

}  // namespace

std::string Recipe::text() const {
  std::string text =
      fmt::format("[data]\ntext = {}\ntokenizer = {}\nsplits = {}\nsplit_block = {}\n\n", toml_text(data.text), toml_text(data.tokenizer),
                  toml_list(
                      data.splits, +[](const int& part) { return std::to_string(part); }),
                  data.split_block);
  text += space_tables(space) + "\n" + train_table(train);
  for (const auto& stage : stages) text += stage_table(stage);
  text += fmt::format("[deploy]\ndtype = {}\nbatch = {}\ncontext = {}\nphase = {}\nthreads = {}\n\n", toml_text(deploy.dtype), deploy.batch,
                      deploy.context, toml_text(deploy.phase), deploy.threads);
  return text + search_table(search);
}

}  // namespace elastiform
