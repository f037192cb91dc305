#include "trainers/step_rules/step_rule.hpp"

#include <array>

#include "kernels/errors.hpp"
#include "trainers/registry.hpp"
#include "trainers/step_rules/esam.hpp"
#include "trainers/step_rules/looksam.hpp"
#include "trainers/step_rules/sam.hpp"

namespace elastiform {
namespace {

/// One pass.
class Plain final : public StepRule {
 public:
  Weights& gradients(const RuleContext& context) override { return context.pass({}); }
};

constexpr std::array kRules{
    StepRuleEntry{"plain", "the gradient at the weights", "",
                  [](const TrainOptions&, std::shared_ptr<const WeightTable>, const Backend&) -> std::unique_ptr<StepRule> {
                    return std::make_unique<Plain>();
                  }},
    StepRuleEntry{"sam", "the gradient a step of `rho` uphill: flatter minima for twice the time (arXiv 2010.01412)", "rho adaptive",
                  [](const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
                      -> std::unique_ptr<StepRule> { return std::make_unique<Sam>(options, std::move(table), backend); },
                  1, [](const TrainOptions&) { return RulePasses{.whole = 2}; }},
    StepRuleEntry{"looksam", "SAM every `look_every` steps, and what it added in the steps between (arXiv 2203.02714)",
                  "rho adaptive look_every look_share",
                  [](const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
                      -> std::unique_ptr<StepRule> { return std::make_unique<LookSam>(options, std::move(table), backend); },
                  2, [](const TrainOptions& options) { return RulePasses{.whole = 1 + 1.0 / static_cast<double>(options.look_every)}; }, 1},
    StepRuleEntry{"esam", "SAM with a step of some weights, whose second pass covers the sequences that it hurts most (arXiv 2110.03141)",
                  "rho adaptive uphill_share sharp_share",
                  [](const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
                      -> std::unique_ptr<StepRule> { return std::make_unique<Esam>(options, std::move(table), backend); },
                  1, Esam::passes, 0, Esam::sharpest},
};

}  // namespace

bool StepRuleEntry::reads(std::string_view key) const { return names_key(keys, key); }

void check_step_rule(const TrainOptions& options, const std::string& where) {
  if (find_step_rule(options.step_rule).sharpest_of(options) > 0 && options.dropout > 0)
    throw InputError({where, "train.dropout = 0: a mask belongs to a row of the batch, and the second pass has only some of its rows",
                      std::to_string(options.dropout), "sam goes with dropout, and esam with sharp_share = 1"});
}

std::span<const StepRuleEntry> step_rules() { return kRules; }

const StepRuleEntry& find_step_rule(std::string_view name) { return find_entry(step_rules(), name, "recipe: train.step_rule"); }

}  // namespace elastiform
