#pragma once

#include "trainers/step_rules/sam.hpp"

namespace elastiform {

/// LookSAM (arXiv 2203.02714): every k steps SAM, whose gradient splits into a part along g and the rest, g_v; the steps between take
/// g + α ‖g‖/‖g_v‖ g_v. g_v is as large as the weights, and only bands that a SAM step trains are renewed: one that no such step has trained
/// has none and stands in neither norm; one of another subnet's step is an approximation, whose age is known. A SAM step whose second pass is
/// not finite leaves its bands without: g_v's place held g, which is needed after that pass, and a third copy would be too dear.
class LookSam final : public StepRule {
 public:
  LookSam(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend);
  Weights& gradients(const RuleContext& context) override;
  std::int64_t bytes() const override {
    return uphill_.bytes() + rest_.bytes() + static_cast<std::int64_t>(looked_.size() * sizeof(double));
  }
  std::map<std::string, Weights*> moments() override { return {{"look", &rest_}}; }
  std::map<std::string, std::vector<double>*> band_numbers() override { return {{"looked", &looked_}}; }

 private:
  Weights& look(const RuleContext& context, Weights& g, double norm);
  void add_rest(const RuleContext& context, Weights& g);
  void note(const ActiveBands& active, double step);

  TrainOptions options_;
  Perturbation uphill_;
  Weights rest_;                // g_v
  std::vector<double> looked_;  // per band: the step that g_v is of; -1: it has none
  ActiveBands held_;            // of a step: that have one
  std::vector<BandRectangle> rectangles_;
};

}  // namespace elastiform
