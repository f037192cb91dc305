#include <cmath>

#include "supernet/residual_rules/rules.hpp"

namespace elastiform {

// y = x + F(x), no norms; what carries the signal starts smaller by 0.67 · N^-1/4: T-Fixup (Huang et al., ICML 2020) for stacks whose blocks
// attend to one sequence, as its encoder's do; its (9N)^-1/4 is for blocks with a third branch, cross-attention.
const ResidualRuleEntry kTFixup{.rule = ResidualRule::t_fixup,
                                .name = "t_fixup",
                                .help = "no norms; smaller first values, 0.67·depth^-1/4",
                                .form = {.norm = NormPlace::none},
                                .constants = no_constants,
                                .start = [](const TensorSpec& tensor, const SearchSpace& space) {
                                  Start first = xavier_start(tensor);
                                  if (carries_signal(tensor)) first.deviation *= 0.67 * std::pow(space.max_depth(), -0.25);
                                  return first;
                                }};

}  // namespace elastiform
