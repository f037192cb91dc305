#include "supernet/residual_rules/rules.hpp"

namespace elastiform {
namespace {

/// The paper's steps in the number of blocks, of attention and feed-forward network each (its Table 1).
double first_gain(int blocks) { return blocks <= 18 ? 0.1 : blocks <= 24 ? 1e-5 : 1e-6; }

}  // namespace

// y = x + γ ∘ F(norm x), γ [1, C]: arXiv 2103.17239.
const ResidualRuleEntry kLayerScale{.rule = ResidualRule::layerscale,
                                    .name = "layerscale",
                                    .help = "a learned factor for each channel of a branch, small at first (arXiv 2103.17239)",
                                    .form = {.gate = Gate::channels},
                                    .constants = no_constants,
                                    .start = nullptr,
                                    .first_gate = first_gain};

}  // namespace elastiform
