#include <cmath>

#include "supernet/residual_rules/rules.hpp"

namespace elastiform {
namespace {

/// Of m weight layers that the signal passes, the first m - 1: their product then has scale L^-1/2 for L branches.
double first_layers(int branches, int layers) { return std::pow(branches, -1.0 / (2 * layers - 2)); }

Start start(const TensorSpec& tensor, const SearchSpace& space) {
  if (tensor.role == Role::gate) return {.mean = 1};
  if (tensor.role == Role::residual_out || tensor.name == "head") return {};
  Start first = xavier_start(tensor);
  if (!carries_signal(tensor)) return first;
  // value and out; up and down; gate, up and down, where gate and up are multiplied.
  const bool three = part_of(tensor).starts_with("ffn.") && space.model().ffn == FeedForwardKind::swiglu;
  first.deviation *= first_layers(2 * space.max_depth(), three ? 3 : 2);
  return first;
}

}  // namespace

// y = x + γ · F(x), no norms, γ = 1; the last layer of every branch and the head are 0 at first, the ones before are scaled down, and single
// numbers are added before products and activations: arXiv 1901.09321. Before a softmax such a number would change nothing.
const ResidualRuleEntry kFixup{.rule = ResidualRule::fixup,
                               .name = "fixup",
                               .help = "no norms; branches end in zeros at first, scaled for the number of branches (arXiv 1901.09321)",
                               .form = {.norm = NormPlace::none, .gate = Gate::branch, .shifts = true, .gate_rate = 0.1},
                               .constants = no_constants,
                               .start = start,
                               .zero_head = true};

}  // namespace elastiform
