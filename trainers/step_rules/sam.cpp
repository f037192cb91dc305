#include "trainers/step_rules/sam.hpp"

namespace elastiform {
namespace {

constexpr double kNormEps = 1e-12;

}  // namespace

Perturbation::Perturbation(double rho, bool adaptive, std::shared_ptr<const WeightTable> table, const Backend& backend, UphillShares shares)
    : rho_(rho), adaptive_(adaptive), shares_(shares), before_(table, backend.dtype(), backend.memory()) {
  rectangles_.reserve(most_band_rectangles(*table));
}

Weights& Perturbation::gradient_uphill(const RuleContext& c, Weights& g, double norm) {
  const auto scale_by_weights = [&](const BandRectangle& r) { c.backend.multiply(r.of(g), r.of(std::as_const(c.weights))); };
  if (adaptive_) {
    for_active_bands(c, rectangles_, scale_by_weights);
    norm = global_norm(c.backend, g, c.active, c.bands);
    for_active_bands(c, rectangles_, scale_by_weights);
  }
  keep_frozen(c);
  if (shares_.weights < 1)
    for_active_bands(c, rectangles_, [&](const BandRectangle& r) {
      c.backend.dropout({.y = r.of(g),
                         .x = r.of(std::as_const(g)),
                         .add = {},
                         .rate = 1 - shares_.weights,
                         .seed = shares_.seed,
                         .step = static_cast<std::uint64_t>(c.step),
                         .place = static_cast<std::uint32_t>(r.band),
                         .rows_before = r.row});
    });
  const double factor = rho_ / (norm + kNormEps);
  for_active_bands(c, rectangles_, [&](const BandRectangle& r) {
    c.backend.copy(r.of(before_), r.of(std::as_const(c.weights)));
    c.backend.add(r.of(c.weights), r.of(std::as_const(g)), factor);
  });
  Weights& uphill = c.pass({.unperturbed = &before_, .sharpest = shares_.sequences});
  for_active_bands(c, rectangles_, [&](const BandRectangle& r) { c.backend.copy(r.of(c.weights), r.of(std::as_const(before_))); });
  return uphill;
}

// A teacher is formed with all of before_.
void Perturbation::keep_frozen(const RuleContext& c) {
  if (keeps_frozen_) return;
  for (const TensorSpec& tensor : before_.table().tensors())
    if (!tensor.trained) c.backend.copy(before_.view(tensor), std::as_const(c.weights).view(tensor));
  keeps_frozen_ = true;
}

Weights& sam_gradients(const RuleContext& c, double rho, Perturbation& uphill) {
  Weights& g = c.pass({});
  if (rho == 0) return g;
  const double norm = global_norm(c.backend, g, c.active, c.bands);
  return std::isfinite(norm) ? uphill.gradient_uphill(c, g, norm) : g;
}

}  // namespace elastiform
