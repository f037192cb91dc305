#include "trainers/optimizers/adamw.hpp"

namespace elastiform {

void AdamwOptimizer::update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) {
  begin_update(weights.table(), active, step);
  backend.for_each(static_cast<std::int64_t>(rectangles_.size()), [&](std::int64_t i) {
    const BandRectangle& r = rectangles_[static_cast<std::size_t>(i)];
    adamw_step(backend, options_, clock(r), *r.tensor,
               {.weight = r.of(weights),
                .m = r.of(moments_[0]),
                .v = r.of(moments_[1]),
                .gradient = gradient_of(r, gradients, active),
                .gradient_scale = step.gradient_scale});
  });
}

void adamw_step(Backend& backend, const TrainOptions& options, const BandClocks::Band& clock, const TensorSpec& tensor, Adamw op) {
  fade(backend, clock, op.m, op.v);
  op.rate = clock.rate * tensor.rate;
  op.beta1 = options.beta1, op.beta2 = options.beta2, op.eps = options.eps;
  op.decay = decays(tensor) ? options.decay : 0;
  op.correction1 = clock.first, op.correction2 = clock.second;
  backend.adamw(op);
}

}  // namespace elastiform
