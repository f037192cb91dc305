#pragma once

#include <cstdint>
#include <span>

#include "supernet/cost_model.hpp"
#include "trainers/options.hpp"

namespace elastiform {

/// FLOPs of products in one pass forward (2 a multiply-add) and backward (4, or 2 where the gradient of a frozen weight is not formed) of each subnet over a step's batch; `kept` tokens of a context
/// reach the middle blocks, 0: all. What is computed again is not counted.
/// masked: patches of every image that the pass leaves out and a decoder, whose FLOPs count, guesses; 0: none.
double pass_flops(const CostModel& costs, const TrainOptions& options, std::span<const Subnet> subnets, std::int64_t kept,
                  std::int64_t masked);
/// Of the forward pass of one subnet.
double forward_flops(const CostModel& costs, const TrainOptions& options, const Subnet& subnet, std::int64_t kept);

/// Of the frozen teacher's pass over a step's batch, forward alone: of a plain network of the model, whatever tuning its students have.
double teacher_flops(const ModelConfig& model, const TrainOptions& options);

}  // namespace elastiform
