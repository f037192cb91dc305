#pragma once

#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {

/// Gradient descent with momentum μ, m ← μ m + g; θ ← θ - rate·m, or Nesterov's, which looks a step ahead: rate·(μ m + g). Decay is
/// decoupled. State: one moment an element, a counter a band (catch-up: one more number).
class SgdOptimizer final : public MomentOptimizer {
 public:
  SgdOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
      : MomentOptimizer(options, rule_of(options), std::move(table), backend) {}
  void update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) override;
  static MomentRule rule_of(const TrainOptions& options) { return {.first = options.momentum, .moments = 1, .corrected = false}; }
  static void set_defaults(TrainOptions& options) { options.rate = 0.1, options.decay = 1e-3; }
  static std::string_view refuses(BandPolicy policy);
};

}  // namespace elastiform
