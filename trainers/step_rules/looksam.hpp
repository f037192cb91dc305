#pragma once

#include "trainers/step_rules/sam.hpp"

namespace elastiform {

/// LookSAM (arXiv 2203.02714): every k steps SAM, whose gradient splits into a part along g and the rest, g_v; the steps between take
/// g + α ‖g‖/‖g_v‖ g_v. g_v is as large as the weights, and only bands that a SAM step trains are renewed: one that no such step has trained
/// holds 0, one of another subnet's step is an approximation.
class LookSam final : public StepRule {
 public:
  LookSam(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend);
  Weights& gradients(const RuleContext& context) override;
  std::int64_t bytes() const override { return uphill_.bytes() + rest_.bytes(); }
  std::map<std::string, Weights*> moments() override { return {{"look", &rest_}}; }

 private:
  Weights& look(const RuleContext& context, Weights& g, double norm);
  void add_rest(const RuleContext& context, Weights& g, double norm);

  TrainOptions options_;
  Perturbation uphill_;
  Weights rest_;  // g_v
  std::vector<BandRectangle> rectangles_;
};

}  // namespace elastiform
