#include "trainers/optimizers/adamw.hpp"

namespace elastiform {

void AdamwOptimizer::update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) {
  begin_update(weights.table(), active, step);
  backend.for_each(static_cast<std::int64_t>(rectangles_.size()), [&](std::int64_t i) {
    const BandRectangle& r = rectangles_[static_cast<std::size_t>(i)];
    const BandClocks::Band& c = clock(r);
    fade(backend, r);
    backend.adamw({.weight = r.of(weights),
                   .m = r.of(moments_[0]),
                   .v = r.of(moments_[1]),
                   .gradient = gradient_of(r, gradients, active),
                   .rate = c.rate * r.tensor->rate,
                   .beta1 = options_.beta1,
                   .beta2 = options_.beta2,
                   .eps = options_.eps,
                   .decay = decays(*r.tensor) ? options_.decay : 0,
                   .correction1 = c.first,
                   .correction2 = c.second,
                   .gradient_scale = step.gradient_scale});
  });
}

std::int64_t AdamwOptimizer::state_bytes(const TrainOptions& options, const WeightTable& table) {
  return 2 * table.trained_elements() * bytes_of(DType::float32) + BandClocks::state_bytes(options, rule_of(options), table.band_count());
}

}  // namespace elastiform
