#include "trainers/optimizers/lars.hpp"

#include "trainers/optimizers/trust_ratio.hpp"

namespace elastiform {

LarsOptimizer::LarsOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
    : MomentOptimizer(options, rule_of(options), std::move(table), backend) {
  const std::size_t most = rectangles_.capacity();
  weight_views_.reserve(most), gradient_views_.reserve(most), weight_squares_.reserve(most), gradient_squares_.reserve(most);
  ratios_.reserve(most), squares_.reserve(most);
}

void LarsOptimizer::update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) {
  begin_update(weights.table(), active, step);
  const std::size_t count = rectangles_.size();
  weight_views_.clear(), gradient_views_.clear();
  for (const BandRectangle& r : rectangles_) {
    weight_views_.push_back(r.of(std::as_const(weights)));
    gradient_views_.push_back(r.of(gradients));
  }
  weight_squares_.resize(count), gradient_squares_.resize(count), ratios_.resize(count), squares_.resize(count);
  backend.sum_squares(weight_views_, weight_squares_);
  backend.sum_squares(gradient_views_, gradient_squares_);
  for (std::size_t i = 0; i < count; ++i) squares_[i] = {.weight = weight_squares_[i], .direction = gradient_squares_[i]};
  const auto decay_of = [&](const TensorSpec& tensor) { return decays(tensor) ? options_.decay : 0; };
  const auto ratio_of = [&](const TensorSpec& tensor, const SliceNorms& norms) {
    return options_.trust * norms.weight / (step.gradient_scale * norms.direction + decay_of(tensor) * norms.weight);
  };
  trust_ratios(rectangles_, squares_, ratio_of, ratios_);
  backend.for_each(static_cast<std::int64_t>(count), [&](std::int64_t i) {
    const BandRectangle& r = rectangles_[static_cast<std::size_t>(i)];
    const double ratio = ratios_[static_cast<std::size_t>(i)];
    fade(backend, r);
    backend.momentum_step({.weight = r.of(weights),
                           .m = r.of(moments_[0]),
                           .gradient = r.of(gradients),
                           .rate = clock(r).rate * r.tensor->rate,
                           .keep = options_.momentum,
                           .take = 1,
                           .direction_moment = options_.momentum,
                           .direction_gradient = 1,
                           .coupled_decay = ratio * decay_of(*r.tensor),
                           .gradient_scale = ratio * step.gradient_scale});
  });
}

std::string_view LarsOptimizer::refuses(BandPolicy policy) {
  return policy == BandPolicy::dense ? kNoDenseRatio : refuses_without_corrections(policy);
}

}  // namespace elastiform
