#include <cmath>

#include "supernet/residual_rules/rules.hpp"

namespace elastiform {

// y = norm(α · x + F(x)), α = (2·N_max)^1/4, and first values of what carries the signal smaller by (8·N_max)^-1/4: arXiv 2203.00555 for
// decoders. α multiplies the skip, not the branch, and is that of the largest depth, as one set of weights cannot serve several.
const ResidualRuleEntry kDeepNorm{.rule = ResidualRule::deepnorm,
                                  .name = "deepnorm",
                                  .help = "norms after the branches; the skip times (2·depth)^1/4 (arXiv 2203.00555)",
                                  .form = {.norm = NormPlace::after},
                                  .constants = [](int blocks) { return ResidualConstants{.skip_scale = std::pow(2.0 * blocks, 0.25)}; },
                                  .start =
                                      [](const TensorSpec& tensor, const SearchSpace& space) {
                                        Start first = xavier_start(tensor);
                                        if (carries_signal(tensor)) first.deviation *= std::pow(8.0 * space.max_depth(), -0.25);
                                        return first;
                                      }};

}  // namespace elastiform
