#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device.hpp"
#include "supernet/network.hpp"
#include "supernet/plan_cache.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {

/// Training steps of a space on one random batch, as the trainer does them: zeroing, forward and backward of each subnet, clipping, AdamW.
class TrainingSteps {
 public:
  /// distill: the first subnet of a step is the largest and teaches the others.
  /// options: activations and the optimizer's.
  TrainingSteps(const SearchSpace& space, Backend& backend, Weights weights, int sequences, bool distill, const TrainOptions& options = {});
  TrainingSteps(const TrainingSteps&) = delete;
  TrainingSteps& operator=(const TrainingSteps&) = delete;
  void step(std::span<const Subnet> subnets);
  const Weights& weights() const { return weights_; }

 private:
  Backend& backend_;
  Network network_;
  Weights weights_, gradients_;
  Batch batch_;
  std::unique_ptr<Objective> objective_;
  std::unique_ptr<Optimizer> optimizer_;
  PlanCache plans_;
  Subnet largest_;
  ActiveBands active_;
  BandScratch bands_;
  std::int64_t activation_limit_;
  Arena arena_;
  double clip_ = 0;
  std::int64_t updates_ = 0;
  std::vector<LossReport> losses_;  // of the last step
};

/// Losses of single subnets as the evaluator forms them: every worker scores its own sequences with a serial backend.
class EvaluationSteps {
 public:
  EvaluationSteps(const SearchSpace& space, const ThreadPool& pool, const Compute& compute, Weights weights, int sequences);
  void step(const Subnet& subnet);

 private:
  struct Worker;
  const ThreadPool& pool_;
  ThreadPool serial_{1};
  std::vector<std::unique_ptr<Backend>> backends_;
  Network network_;
  Weights weights_;
  std::vector<std::shared_ptr<Worker>> workers_;
};

/// Weights of a space as training starts with them.
Weights initial_weights(const SearchSpace& space, Backend* backend = nullptr);

}  // namespace elastiform
