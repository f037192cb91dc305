#pragma once

#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {

/// AdamW (arXiv 1711.05101) with the band policies of a weight-sharing network. State: two moments an element; a step counter a band
/// (catch-up: three more numbers).
class AdamwOptimizer final : public MomentOptimizer {
 public:
  AdamwOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
      : MomentOptimizer(options, rule_of(options), std::move(table), backend) {}
  void update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) override;
  static MomentRule rule_of(const TrainOptions& options) { return {options.beta1, options.beta2}; }
};

/// The step of one rectangle, whose scalars but gradient_scale follow from options, clock and tensor.
void adamw_step(Backend& backend, const TrainOptions& options, const BandClocks::Band& clock, const TensorSpec& tensor, Adamw op);

}  // namespace elastiform
