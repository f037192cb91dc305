#pragma once

#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {

/// LAMB (arXiv 1904.00962): u = AdamW's direction + λθ; θ ← θ - rate·r·u, with r = min(‖θ‖ / ‖u‖, 10) over the slice of a tensor that the
/// step trains; r = 1 for gains, biases, gates and shifts, and where a norm is 0, as in layers that begin at 0. State: as AdamW's.
class LambOptimizer final : public MomentOptimizer {
 public:
  LambOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend);
  void update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) override;
  static MomentRule rule_of(const TrainOptions& options) { return {options.beta1, options.beta2}; }
  static void set_defaults(TrainOptions& options) { options.rate = 1e-2, options.beta2 = 0.999, options.eps = 1e-6, options.decay = 0.01; }
  static std::string_view refuses(BandPolicy policy);

 private:
  /// Whole tensors from rectangle `first` on, whose directions stay in a cache until they are taken.
  std::size_t end_of_group(std::size_t first, bool all) const;

  // Scratch of an update, one a rectangle.
  std::vector<AdamwDirection> directions_;
  std::vector<StepSquares> squares_;
  std::vector<double> ratios_;
};

}  // namespace elastiform
