#pragma once

#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {

/// LARS (arXiv 1708.03888): m ← μ m + r (g + λθ); θ ← θ - rate·m, with r = τ‖θ‖ / (‖g‖ + λ‖θ‖) over the slice of a tensor that the step
/// trains; r = 1 for gains, biases, gates and shifts, and where a norm is 0. State: one moment an element, a counter a band (catch-up: one
/// more number).
class LarsOptimizer final : public MomentOptimizer {
 public:
  LarsOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend);
  void update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) override;
  static MomentRule rule_of(const TrainOptions& options) { return {.first = options.momentum, .moments = 1, .corrected = false}; }
  /// A rate is multiplied with a ratio of about τ.
  static void set_defaults(TrainOptions& options) { options.rate = 2, options.decay = 1e-3; }
  static std::string_view refuses(BandPolicy policy);

 private:
  // Scratch of an update, one a rectangle.
  std::vector<ConstView> weight_views_, gradient_views_;
  std::vector<double> weight_squares_, gradient_squares_, ratios_;
  std::vector<StepSquares> squares_;
};

}  // namespace elastiform
