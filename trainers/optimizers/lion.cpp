#include "trainers/optimizers/lion.hpp"

namespace elastiform {

void LionOptimizer::update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) {
  begin_update(weights.table(), active, step);
  backend.for_each(static_cast<std::int64_t>(rectangles_.size()), [&](std::int64_t i) {
    const BandRectangle& r = rectangles_[static_cast<std::size_t>(i)];
    fade(backend, r);
    backend.momentum_step({.weight = r.of(weights),
                           .m = r.of(moments_[0]),
                           .gradient = gradient_of(r, gradients, active),
                           .rate = clock(r).rate * r.tensor->rate,
                           .keep = options_.beta2,
                           .take = 1 - options_.beta2,
                           .direction_moment = options_.beta1,
                           .direction_gradient = 1 - options_.beta1,
                           .decay = decays(*r.tensor) ? options_.decay : 0,
                           .gradient_scale = step.gradient_scale,
                           .sign = true});
  });
}

std::string_view LionOptimizer::refuses(BandPolicy policy) {
  // methods §3.1, H2: β1 m never becomes 0, so its sign goes on moving.
  if (policy == BandPolicy::dense) return "every weight that a step does not use would go on moving by a whole rate";
  return refuses_without_corrections(policy);
}

}  // namespace elastiform
