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
  static std::int64_t state_bytes(const TrainOptions& options, const WeightTable& table);

 private:
  static MomentRule rule_of(const TrainOptions& options) { return {options.beta1, options.beta2}; }
};

}  // namespace elastiform
