#pragma once

#include "trainers/optimizers/optimizer.hpp"
#include "trainers/trainer.hpp"

namespace elastiform {

/// Everything that changes while training and that a checkpoint must hold; the rest is a function of the recipe.
struct Trainer::State {
  Weights weights;
  std::unique_ptr<Optimizer> optimizer;
  std::int64_t next_step = 0, updates = 0, skipped = 0;
};

}  // namespace elastiform
