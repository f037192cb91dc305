#include "trainers/step_rules/looksam.hpp"

namespace elastiform {

LookSam::LookSam(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
    : options_(options), uphill_(options.rho, options.adaptive, table, backend), rest_(table, backend.dtype(), backend.memory()),
      looked_(static_cast<std::size_t>(table->band_count()), -1), held_(*table, {}) {
  rectangles_.reserve(most_band_rectangles(*table));
}

Weights& LookSam::gradients(const RuleContext& c) {
  Weights& g = c.pass({});
  if (options_.rho == 0) return g;
  const double norm = global_norm(c.backend, g, c.active, c.bands);
  if (!std::isfinite(norm)) return g;
  if (c.step % options_.look_every == 0) return look(c, g, norm);
  add_rest(c, g);
  return g;
}

// With d = g_s - g, which is small and exact where both are alike: g_v = g_s - a g = a d + (1-a) g_s, a = <g, g_s> / ‖g‖².
Weights& LookSam::look(const RuleContext& c, Weights& g, double norm) {
  for_active_bands(c, rectangles_, [&](const BandRectangle& r) { c.backend.copy(r.of(rest_), r.of(std::as_const(g))); });
  Weights& uphill = uphill_.gradient_uphill(c, g, norm);
  const double uphill_norm = global_norm(c.backend, uphill, c.active, c.bands);
  if (!std::isfinite(uphill_norm)) {
    for_active_bands(c, rectangles_, [&](const BandRectangle& r) { c.backend.zero(r.of(rest_)); });
    note(c.active, -1);
    return uphill;
  }
  for_active_bands(c, rectangles_, [&](const BandRectangle& r) {
    c.backend.scale(r.of(rest_), -1);
    c.backend.add(r.of(rest_), r.of(std::as_const(uphill)));
  });
  note(c.active, static_cast<double>(c.step));
  const double difference = global_norm(c.backend, rest_, c.active, c.bands);
  const double along = norm > 0 ? (norm * norm + uphill_norm * uphill_norm - difference * difference) / (2 * norm * norm) : 0;
  for_active_bands(c, rectangles_, [&](const BandRectangle& r) {
    c.backend.scale(r.of(rest_), along);
    c.backend.add(r.of(rest_), r.of(std::as_const(uphill)), 1 - along);
  });
  return uphill;
}

void LookSam::note(const ActiveBands& active, double step) {
  for (std::size_t band = 0; band < looked_.size(); ++band)
    if (active[static_cast<std::int64_t>(band)]) looked_[band] = step;
}

void LookSam::add_rest(const RuleContext& c, Weights& g) {
  held_.assign(c.active, looked_);
  const double rest = global_norm(c.backend, rest_, held_, c.bands);
  if (rest == 0) return;
  const double factor = options_.look_share * global_norm(c.backend, g, held_, c.bands) / rest;
  for_bands(c, held_, rectangles_, [&](const BandRectangle& r) { c.backend.add(r.of(g), r.of(std::as_const(rest_)), factor); });
}

}  // namespace elastiform
