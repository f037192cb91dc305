#pragma once

#include "trainers/precision/loss_scaler.hpp"
#include "trainers/precision/precision_rule.hpp"
#include "trainers/precision/rounded_weights.hpp"

namespace elastiform {

/// Mixed precision in fp16 (arXiv 1710.03740): products of blocks multiply operands rounded to binary16, losses are scaled, and a step
/// whose gradients overflow is skipped. Overflows are counted by the embed width of the subnet that had them: skipping only wide ones
/// would bias what is learned. Emulated: operands are rounded and stay in float32.
class Fp16 final : public PrecisionRule, private OperandRounding {
 public:
  Fp16(const TrainOptions& options, std::shared_ptr<const WeightTable> table, Backend& backend);
  const Weights& begin_step(Backend& backend, const Weights& weights, const ActiveBands& active) override;
  void begin_passes(Backend& backend, const Weights& gradients) override;
  void end_passes(Backend& backend) override;
  double loss_scale() const override { return scaler_.scale(); }
  bool checks_passes() const override { return true; }
  void end_step(std::span<const Subnet> subnets, std::span<const LossReport> losses, bool taken) override;
  std::map<std::string, std::vector<double>*> numbers() override;
  std::int64_t bytes() const override { return weights_.bytes(); }
  std::string summary() const override;

 private:
  Rule rule(const std::byte* weight, OperandSide side) const override;
  void saw(const std::byte* /*weight*/, OperandSide /*side*/, float /*largest*/) override {}

  RoundedWeights weights_;
  const Weights* gradients_ = nullptr;  // being formed
  LossScaler scaler_;
  std::vector<int> widths_;                 // embed choices
  std::vector<double> passes_, overflows_;  // of each
  std::vector<double> scales_;              // 1 for each tensor
};

}  // namespace elastiform
