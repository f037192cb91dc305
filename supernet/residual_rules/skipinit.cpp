#include "supernet/residual_rules/rules.hpp"

namespace elastiform {

// y = x + α · F(x), no norms, an α for each branch: arXiv 2002.10444. Of its two starts, 0 and the L branches' L^-1/2, the second: the
// first is what rezero does.
const ResidualRuleEntry kSkipInit{.rule = ResidualRule::skipinit,
                                  .name = "skipinit",
                                  .help = "no norms; a learned factor for each branch, (2·depth)^-1/2 at first (arXiv 2002.10444)",
                                  .form = {.norm = NormPlace::none, .gate = Gate::branch},
                                  .constants = no_constants,
                                  .start = [](const TensorSpec& tensor, const SearchSpace& space) {
                                    if (tensor.role == Role::gate) return Start{.mean = branch_scale_of(space.max_depth())};
                                    return xavier_start(tensor);
                                  }};

}  // namespace elastiform
