#pragma once

#include <memory>

#include "trainers/optimizers/optimizer.hpp"
#include "trainers/precision/precision_rule.hpp"
#include "trainers/step_rules/step_rule.hpp"
#include "trainers/token_selection/token_selection.hpp"
#include "trainers/trainer.hpp"
#include "trainers/weight_average.hpp"

namespace elastiform {

/// Everything that changes while training and that a checkpoint must hold; the rest is a function of the recipe.
struct Trainer::State {
  Weights weights;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<StepRule> rule;
  std::unique_ptr<WeightAverage> average;  // train.ema, or none
  GradientNoise noise;                     // train.noise_scale
  std::unique_ptr<TokenSelection> tokens;
  std::unique_ptr<PrecisionRule> precision;
  std::int64_t next_step = 0, updates = 0, skipped = 0;
};

}  // namespace elastiform
