#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/device.hpp"
#include "search/algorithms/algorithm.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/data/data_options.hpp"
#include "supernet/data/data_source.hpp"
#include "supernet/search_space.hpp"
#include "trainers/options.hpp"

namespace elastiform {

/// [search] of a recipe.
struct SearchOptions {
  std::string algorithm = "evolution";
  std::int64_t evaluations = 200;
  std::int64_t round_size = 16;
  std::int64_t population = 32, tournament = 8;
  std::int64_t founders = 0;  // of the first population, homogeneous subnets
  std::string law = "balanced";
  std::uint64_t seed = 0;
  std::int64_t segments = 0;  // of the search split that score a subnet; 0: all
  std::int64_t stride = 0;    // 0: the context (windows do not overlap)
  std::vector<std::string> budgets;
};

/// A recipe with every default filled in (docs/recipes.md). Unknown keys are errors that name the nearest known key.
struct Recipe {
  DataOptions data;
  SearchSpace space;
  TrainOptions train;
  std::vector<Stage> stages;
  Deploy deploy;
  SearchOptions search;
  std::string teacher;  // [teacher]: SHA-256 of the weights in the run's teacher.h5; what they are of is train.teacher. Empty: none
  std::string base;     // of a tuning ([tune]): SHA-256 of the weights that it began with; how it tunes is in space.model().tuning

  /// `overrides`: "table.key=value" of --set. `where` names the recipe in errors.
  /// inherited: the text is a resolved recipe, whose keys need not be read once `overrides` have chosen otherwise.
  static Recipe parse(std::string_view toml, std::string_view where, const std::vector<std::string>& overrides = {},
                      bool inherited = false);
  static Recipe load(const std::string& path, const std::vector<std::string>& overrides = {});
  /// The resolved recipe: every key that applies written out; parse(text()) gives the same recipe.
  std::string text() const;
};

// Whether the schedule, policy, sampler or objective chosen reads a key: others are refused when set, and not written.
bool uses_init(const ModelConfig& model);
bool uses_loss_scale(const TrainOptions& train);
bool uses_fp8_window(const TrainOptions& train);
bool uses_activation_bytes(const TrainOptions& train);
bool uses_band_warmup(const TrainOptions& train);
bool scales_rate(const TrainOptions& train);
bool uses_cooldown(const TrainOptions& train);
bool uses_final_rate(const TrainOptions& train);
bool uses_tokens_kept(const TrainOptions& train);  // tokens_step too
bool uses_tokens_full(const TrainOptions& train);
bool uses_ends(const Stage& stage);  // largest, smallest
bool uses_random(const Stage& stage);
bool needs_teacher(const Recipe& recipe);  // whether a stage learns from the frozen teacher of [teacher]

/// What the products of training, and those of evaluations and searches, are computed in. Throw InputError if this CPU cannot.
Compute training_compute(const Recipe& recipe, Device device);
Compute evaluation_compute(const Recipe& recipe, Device device);

CostModel cost_model_of(const Recipe& recipe);

}  // namespace elastiform
