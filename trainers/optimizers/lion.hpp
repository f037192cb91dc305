#pragma once

#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {

/// Lion (arXiv 2302.06675): θ ← θ - rate·sign(β1 m + (1-β1) g), then m ← β2 m + (1-β2) g. State: one moment an element, a counter a band
/// (catch-up: one more number).
class LionOptimizer final : public MomentOptimizer {
 public:
  LionOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
      : MomentOptimizer(options, rule_of(options), std::move(table), backend) {}
  void update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) override;
  static MomentRule rule_of(const TrainOptions& options) { return {.first = options.beta2, .moments = 1, .corrected = false}; }
  /// A step is a whole rate in every element: AdamW's rate is 3 to 10 times too large, and its decay as much too small.
  static void set_defaults(TrainOptions& options) { options.rate = 3e-4, options.decay = 0.6, options.beta2 = 0.98; }
  static std::string_view refuses(BandPolicy policy);
};

}  // namespace elastiform
