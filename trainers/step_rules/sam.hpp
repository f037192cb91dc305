#pragma once

#include <cmath>

#include "trainers/step_rules/step_rule.hpp"

namespace elastiform {

/// body(rectangle) for those bands, spread over workers; `rectangles` is scratch.
template <class Body>
void for_bands(const RuleContext& c, const ActiveBands& bands, std::vector<BandRectangle>& rectangles, const Body& body) {
  band_rectangles(
      c.weights.table(), [&](std::int64_t band) { return bands[band] ? 0 : -1; }, rectangles);
  c.backend.for_each(static_cast<std::int64_t>(rectangles.size()), [&](std::int64_t i) { body(rectangles[static_cast<std::size_t>(i)]); });
}

/// The same for the active bands.
template <class Body>
void for_active_bands(const RuleContext& c, std::vector<BandRectangle>& rectangles, const Body& body) {
  for_bands(c, c.active, rectangles, body);
}

/// What of a step uphill is left out, to make it cheaper.
struct UphillShares {
  double weights = 1;      // of the elements, drawn in each step; ε of these is divided by it, so that its mean is the whole ε
  std::uint64_t seed = 0;  // of the draws
  int sequences = 0;       // RulePass::sharpest
};

/// Weights that are perturbed for one pass and put back bitwise: (θ + ε) - ε would not be θ. One copy of the weights.
class Perturbation {
 public:
  /// rho, adaptive: ε = ρ g / (‖g‖ + 1e-12), or ρ θ²g / (‖θg‖ + 1e-12), over the active bands of all subnets jointly.
  Perturbation(double rho, bool adaptive, std::shared_ptr<const WeightTable> table, const Backend& backend, UphillShares shares = {});

  /// The gradient at θ + ε(g), weights put back; g is spent. `norm` is ‖g‖ over the active bands.
  Weights& gradient_uphill(const RuleContext& context, Weights& g, double norm);
  std::int64_t bytes() const { return before_.bytes(); }

 private:
  double rho_;
  bool adaptive_;
  UphillShares shares_;
  void keep_frozen(const RuleContext& c);
  Weights before_;
  bool keeps_frozen_ = false;  // its frozen tensors are those of the weights
  std::vector<BandRectangle> rectangles_;
};

/// SAM's step: one pass, and another one uphill unless rho is 0 or the first is not finite.
Weights& sam_gradients(const RuleContext& context, double rho, Perturbation& uphill);

/// Sharpness-aware minimisation (arXiv 2010.01412; adaptive: 2102.11600): the gradient at θ + ε of the same batch, subnets and teachers. A
/// sandwich has one ε, of the sum of its subnets' gradients. With ρ = 0 it is the plain rule, in one pass.
class Sam final : public StepRule {
 public:
  Sam(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
      : rho_(options.rho), uphill_(options.rho, options.adaptive, std::move(table), backend) {}
  Weights& gradients(const RuleContext& context) override { return sam_gradients(context, rho_, uphill_); }
  std::int64_t bytes() const override { return uphill_.bytes(); }

 private:
  double rho_;
  Perturbation uphill_;
};

}  // namespace elastiform
