#include "supernet/residual_rules/rules.hpp"

namespace elastiform {

// y = x + α · F(x), no norms, α = 0 at first and shared by the two branches of a block: arXiv 2003.04887. Subnets of equal width are the
// same function then, whatever their depth.
const ResidualRuleEntry kRezero{.rule = ResidualRule::rezero,
                                .name = "rezero",
                                .help = "no norms; a learned factor for the branches of a block, 0 at first (arXiv 2003.04887)",
                                .form = {.norm = NormPlace::none, .gate = Gate::block},
                                .constants = no_constants,
                                .start = [](const TensorSpec& tensor, const SearchSpace&) { return xavier_start(tensor); }};

}  // namespace elastiform
