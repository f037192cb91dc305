#include "trainers/step_rules/step_rule.hpp"

#include <array>

#include "trainers/registry.hpp"
#include "trainers/step_rules/looksam.hpp"
#include "trainers/step_rules/sam.hpp"

namespace elastiform {
namespace {

/// One pass.
class Plain final : public StepRule {
 public:
  Weights& gradients(const RuleContext& context) override { return context.pass(nullptr); }
};

constexpr std::array kRules{
    StepRuleEntry{"plain", "the gradient at the weights", "",
                  [](const TrainOptions&, std::shared_ptr<const WeightTable>, const Backend&) -> std::unique_ptr<StepRule> {
                    return std::make_unique<Plain>();
                  }},
    StepRuleEntry{"sam", "the gradient a step of `rho` uphill: flatter minima for twice the time (arXiv 2010.01412)", "rho adaptive",
                  [](const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
                      -> std::unique_ptr<StepRule> { return std::make_unique<Sam>(options, std::move(table), backend); },
                  1, [](const TrainOptions&) { return 2.0; }},
    StepRuleEntry{"looksam", "SAM every `look_every` steps, and what it added in the steps between (arXiv 2203.02714)",
                  "rho adaptive look_every look_share",
                  [](const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
                      -> std::unique_ptr<StepRule> { return std::make_unique<LookSam>(options, std::move(table), backend); },
                  2, [](const TrainOptions& options) { return 1 + 1.0 / static_cast<double>(options.look_every); }, 1},
};

}  // namespace

bool StepRuleEntry::reads(std::string_view key) const { return names_key(keys, key); }

std::span<const StepRuleEntry> step_rules() { return kRules; }

const StepRuleEntry& find_step_rule(std::string_view name) { return find_entry(step_rules(), name, "recipe: train.step_rule"); }

}  // namespace elastiform
