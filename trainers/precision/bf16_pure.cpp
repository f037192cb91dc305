#include "trainers/precision/bf16_pure.hpp"

#include "kernels/random.hpp"
#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {

Bf16Pure::Bf16Pure(const TrainOptions& options, std::shared_ptr<const WeightTable> table, Backend& /*backend*/)
    : seed_(options.seed), dense_(parse_band_policy(options.policy) == BandPolicy::dense) {
  rectangles_.reserve(most_band_rectangles(*table));
}

void Bf16Pure::initialize(Backend& backend, Weights& weights) { round(backend, weights, nullptr, 0); }

void Bf16Pure::updated(Backend& backend, Weights& weights, const ActiveBands& active, std::int64_t t) {
  round(backend, weights, dense_ ? nullptr : &active, static_cast<std::uint32_t>(t + 1));
}

void Bf16Pure::round(Backend& backend, Weights& weights, const ActiveBands* active, std::uint32_t step) {
  const WeightTable& table = weights.table();
  band_rectangles(
      table, [&](std::int64_t band) { return !active || (*active)[band] ? 0 : -1; }, rectangles_);
  backend.for_each(static_cast<std::int64_t>(rectangles_.size()), [&](std::int64_t i) {
    const BandRectangle& r = rectangles_[static_cast<std::size_t>(i)];
    const auto tensor = static_cast<std::uint32_t>(r.tensor - table.tensors().data());
    const View place = r.of(weights);
    backend.round({.y = place,
                   .x = place,
                   .format = NumberFormat::bfloat16_stochastic,
                   .noise = {seed_, {step, static_cast<std::uint32_t>(Purpose::weight_rounding) | tensor << 8}},
                   .first_row = r.row,
                   .first_column = r.column});
  });
}

}  // namespace elastiform
