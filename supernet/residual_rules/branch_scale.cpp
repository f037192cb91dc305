#include "supernet/residual_rules/rules.hpp"

namespace elastiform {

// y = x + s · F(norm x), s = (2·N_max)^-1/2: subnets of every depth share it, so they share prefixes of their computation.
const ResidualRuleEntry kBranchScale{.rule = ResidualRule::branch_scale,
                                     .name = "branch_scale",
                                     .help = "a constant factor of branches, (2·depth)^-1/2 of the largest depth",
                                     .form = {},
                                     .constants = [](int blocks) { return ResidualConstants{.branch_scale = branch_scale_of(blocks)}; },
                                     .start = nullptr};

}  // namespace elastiform
