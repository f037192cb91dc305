#include "trainers/optimizers/sgd.hpp"

namespace elastiform {

void SgdOptimizer::update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) {
  const double mu = options_.momentum;
  begin_update(weights.table(), active, step);
  backend.for_each(static_cast<std::int64_t>(rectangles_.size()), [&](std::int64_t i) {
    const BandRectangle& r = rectangles_[static_cast<std::size_t>(i)];
    fade(backend, r);
    backend.momentum_step({.weight = r.of(weights),
                           .m = r.of(moments_[0]),
                           .gradient = gradient_of(r, gradients, active),
                           .rate = clock(r).rate * r.tensor->rate,
                           .keep = mu,
                           .take = 1,
                           .direction_moment = options_.nesterov ? mu * mu : mu,
                           .direction_gradient = options_.nesterov ? 1 + mu : 1,
                           .decay = decays(*r.tensor) ? options_.decay : 0,
                           .gradient_scale = step.gradient_scale});
  });
}

std::string_view SgdOptimizer::refuses(BandPolicy policy) { return refuses_without_corrections(policy); }

}  // namespace elastiform
