#include "trainers/step_rules/looksam.hpp"

namespace elastiform {

LookSam::LookSam(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
    : options_(options), uphill_(options.rho, options.adaptive, table, backend), rest_(table, backend.dtype(), backend.memory()) {
  rectangles_.reserve(most_band_rectangles(*table));
}

Weights& LookSam::gradients(const RuleContext& c) {
  Weights& g = c.pass(nullptr);
  if (options_.rho == 0) return g;
  const double norm = global_norm(c.backend, g, c.active, c.bands);
  if (!std::isfinite(norm)) return g;
  if (c.step % options_.look_every == 0) return look(c, g, norm);
  add_rest(c, g, norm);
  return g;
}

// With d = g_s - g, which is small and exact where both are alike: g_v = g_s - a g = a d + (1-a) g_s, a = <g, g_s> / ‖g‖².
Weights& LookSam::look(const RuleContext& c, Weights& g, double norm) {
  for_active_bands(c, rectangles_, [&](const BandRectangle& r) { c.backend.copy(r.of(rest_), r.of(std::as_const(g))); });
  Weights& uphill = uphill_.gradient_uphill(c, g, norm);
  const double uphill_norm = global_norm(c.backend, uphill, c.active, c.bands);
  if (!std::isfinite(uphill_norm)) {
    for_active_bands(c, rectangles_, [&](const BandRectangle& r) { c.backend.zero(r.of(rest_)); });
    return uphill;
  }
  for_active_bands(c, rectangles_, [&](const BandRectangle& r) {
    c.backend.scale(r.of(rest_), -1);
    c.backend.add(r.of(rest_), r.of(std::as_const(uphill)));
  });
  const double difference = global_norm(c.backend, rest_, c.active, c.bands);
  const double along = norm > 0 ? (norm * norm + uphill_norm * uphill_norm - difference * difference) / (2 * norm * norm) : 0;
  for_active_bands(c, rectangles_, [&](const BandRectangle& r) {
    c.backend.scale(r.of(rest_), along);
    c.backend.add(r.of(rest_), r.of(std::as_const(uphill)), 1 - along);
  });
  return uphill;
}

void LookSam::add_rest(const RuleContext& c, Weights& g, double norm) {
  const double rest = global_norm(c.backend, rest_, c.active, c.bands);
  if (rest == 0) return;
  for_active_bands(c, rectangles_,
                   [&](const BandRectangle& r) { c.backend.add(r.of(g), r.of(std::as_const(rest_)), options_.look_share * norm / rest); });
}

}  // namespace elastiform
