#include "supernet/residual_rules/rules.hpp"

namespace elastiform {

// y = x + s · F(norm x), s = (2·N)^-1/2 of the subnet's own N blocks: the stream ends with the same variance at every depth, at the price
// that a branch's weights serve several s and that subnets share a prefix only with those of their depth.
const ResidualRuleEntry kBranchScaleByDepth{.rule = ResidualRule::branch_scale_by_depth,
                                            .name = "branch_scale_by_depth",
                                            .help = "a factor of branches that follows the subnet, (2·depth)^-1/2 of its own depth",
                                            .form = {.scales_by_depth = true},
                                            .constants = no_constants,
                                            .start = nullptr};

}  // namespace elastiform
