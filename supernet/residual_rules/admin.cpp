#include "supernet/residual_rules/rules.hpp"

namespace elastiform {

// y = norm(ω ∘ x + F(x)), ω [1, C] learned: arXiv 2004.08249. ω starts at the root of the variance that the branches before have, which one
// forward pass with ω = 1 measures; a prefix of the blocks has the same, so subnets of every depth share it.
const ResidualRuleEntry kAdmin{
    .rule = ResidualRule::admin,
    .name = "admin",
    .help = "norms after the branches; a learned factor of the skip that a first pass over data measures (arXiv 2004.08249)",
    .form = {.norm = NormPlace::after, .skip_gain = true},
    .constants = no_constants,
    .start =
        [](const TensorSpec& tensor, const SearchSpace&) {
          if (tensor.role == Role::gate) return Start{.mean = 1};
          return xavier_start(tensor);
        },
    .profiled = true};

}  // namespace elastiform
