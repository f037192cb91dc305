#pragma once

#include <atomic>

#include "trainers/precision/delayed_scaling.hpp"
#include "trainers/precision/precision_rule.hpp"
#include "trainers/precision/rounded_weights.hpp"

namespace elastiform {

/// Hybrid FP8 (arXiv 2209.05433): products of blocks multiply weights and activations rounded to E4M3 and gradients rounded to E5M2, and sum
/// in float32; embeddings, head, norms, attention's inner products and the optimizer stay float32. Weights are rounded once a step, as
/// whole tensors with one scale, so every slice has the codes of the whole. Scales of activations and gradients are delayed; what is
/// recomputed in backward is seen twice and counts once, as the largest. Emulated: operands are rounded and stay in float32.
class Fp8 final : public PrecisionRule, private OperandRounding {
 public:
  Fp8(const TrainOptions& options, std::shared_ptr<const WeightTable> table, Backend& backend);
  const Weights& begin_step(Backend& backend, const Weights& weights, const ActiveBands& active) override;
  void begin_passes(Backend& backend, const Weights& gradients) override;
  void end_passes(Backend& backend) override;
  void end_step(std::span<const Subnet> subnets, std::span<const LossReport> losses, bool taken) override;
  std::map<std::string, std::vector<double>*> numbers() override;
  std::int64_t bytes() const override;
  static std::int64_t number_bytes(const TrainOptions& options, const WeightTable& table);

 private:
  Rule rule(const std::byte* weight, OperandSide side) const override;
  void saw(const std::byte* weight, OperandSide side, float largest) override;

  std::size_t operand_of(const std::byte* weight, OperandSide side) const;

  RoundedWeights weights_;
  const Weights* gradients_ = nullptr;  // being formed
  std::vector<int> rounded_;            // of each tensor: its number among those that are rounded; -1: it is not
  DelayedScaling scaling_;              // two operands a rounded tensor, in the order of OperandSide
  std::vector<double> weight_scales_;
  std::vector<std::atomic<float>> largest_;  // of this step's operands; negative: not met
};

}  // namespace elastiform
