#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "supernet/data/masking.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/options.hpp"
#include "trainers/samplers/sampler.hpp"

namespace elastiform {

/// A stage of the recipe with what it is made of.
struct RunningStage {
  std::int64_t begin = 0, end = 0;  // steps
  std::unique_ptr<SubnetSampler> sampler;
  std::unique_ptr<Objective> objective;
  Masking masking;  // of the batches
};

/// Whether one of them learns from the recipe's frozen teacher.
bool needs_teacher(std::span<const RunningStage> stages);

/// What an objective hides of every image; Masking{} where it hides nothing. Throws InputError where its masks cannot be.
Masking masking_of(const SearchSpace& space, const TrainOptions& options, const Objective& objective);

/// Those of a recipe, in order. Throws InputError where an objective asks for what a sampler does not draw.
std::vector<RunningStage> make_stages(const SearchSpace& space, const TrainOptions& options, const std::vector<Stage>& stages);

}  // namespace elastiform
