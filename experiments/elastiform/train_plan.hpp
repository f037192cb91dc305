#pragma once

#include <cstdint>

#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/recipe.hpp"
#include "trainers/trainer.hpp"

namespace elastiform {

/// Mean over the steps of each stage of what a step costs, from up to 200 of its steps: samplers are pure functions, so nothing is trained.
double expected_flops(const Recipe& recipe);

/// The lines that stand before a training: memory, tokens, size of the space, costs of its ends, tokens per parameter.
void print_plan(std::FILE* stream, const Recipe& recipe, const Trainer::Memory& memory);

/// `train --dry-run`: the plan and minutes from five trained steps. Writes nothing.
int dry_run(const Recipe& recipe, bool json, int threads);

}  // namespace elastiform
