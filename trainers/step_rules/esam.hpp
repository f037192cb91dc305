#pragma once

#include "trainers/step_rules/sam.hpp"

namespace elastiform {

/// ESAM (arXiv 2110.03141): SAM's ε of a share of the weights, drawn anew in each step, divided by that share; and of each micro-batch a
/// second pass over those sequences alone whose loss ε has raised most. To know them costs a forward pass at θ + ε: with half of the sequences
/// a step takes 1 + 1/3 + 1/2 passes, where SAM takes 2. Gradients of the first pass are formed of all weights, as norms are of all, so the
/// share of the weights saves no time here. Masks are those of a dropout whose places are bands, with a seed that no network's dropout has.
class Esam final : public StepRule {
 public:
  Esam(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
      : rho_(options.rho),
        uphill_(options.rho, options.adaptive, std::move(table), backend, {options.uphill_share, ~options.seed, sharpest(options)}) {}
  Weights& gradients(const RuleContext& context) override { return sam_gradients(context, rho_, uphill_); }
  std::int64_t bytes() const override { return uphill_.bytes(); }

  /// Sequences of a micro-batch that its second pass covers; 0: all.
  static int sharpest(const TrainOptions& options);
  static RulePasses passes(const TrainOptions& options);

 private:
  double rho_;
  Perturbation uphill_;
};

}  // namespace elastiform
