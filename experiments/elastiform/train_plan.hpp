#pragma once

#include <cstdint>

#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/recipe.hpp"
#include "trainers/trainer.hpp"

namespace elastiform {

/// Mean over the steps of each stage of what a step costs, from up to 200 of its steps: samplers are pure functions, so nothing is trained.
double expected_flops(const Recipe& recipe);

/// What a training takes: the trainer, the arenas that score the three live losses beside it, and what libraries hold for themselves.
struct PlannedMemory {
  Trainer::Memory trainer;
  std::int64_t evaluation = 0;
  int threads = 1;
  std::int64_t total() const { return trainer.total() + evaluation; }
  /// Kernels keep workspaces of up to 2 MiB a thread; HDF5's cache and buffers take up to 8 MiB while a checkpoint is written.
  std::int64_t libraries() const { return (std::int64_t{threads} * 2 + 8) << 20; }
};

/// The lines that stand before a training: memory, tokens, size of the space, costs of its ends, tokens per parameter.
void print_plan(std::FILE* stream, const Recipe& recipe, const PlannedMemory& memory);

/// `train --dry-run`: the plan and minutes from five trained steps. Writes nothing.
int dry_run(const Recipe& recipe, bool json, int threads);

}  // namespace elastiform
