#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace elastiform {

class SearchSpace;
struct TensorSpec;
struct ModelConfig;

/// The rules, in the order of the registry.
enum class ResidualRule : std::uint8_t {
  branch_scale,
  branch_scale_by_depth,
  layerscale,
  rezero,
  skipinit,
  fixup,
  t_fixup,
  deepnorm,
  admin
};

enum class NormPlace : std::uint8_t { before, after, none };
/// What multiplies a branch: nothing, one number a block that its branches share, one a branch, one a channel.
enum class Gate : std::uint8_t { none, block, branch, channels };

/// How a branch F meets the residual stream x: y = after(α · ω ∘ x + s · γ ∘ F(before(x))), with the norm in one of the two places or in
/// none. Layers, the weight table and the cost model read this and know no rule. α and s are numbers of the model, ω and γ learned.
struct ResidualForm {
  NormPlace norm = NormPlace::before;
  Gate gate = Gate::none;  // γ
  bool skip_gain = false;  // ω [1, C]; with NormPlace::after only
  bool shifts =
      false;  // a learned number added before every product and activation of a branch, not of the head; with NormPlace::none only
  bool scales_by_depth = false;  // s = (2 · blocks of the subnet)^-1/2 instead of ModelConfig::branch_scale
  double gate_rate = 1;          // learning rate of γ and the shifts, of the schedule's
  bool fuses() const { return gate == Gate::none && norm != NormPlace::after; }  // y = x + s · F, which a product adds by itself
  /// α = 1 and a norm before: γ and s can stand in the branch's last weights, and a plain pre-norm block is left.
  bool folds() const { return norm == NormPlace::before; }
  bool final_norm() const { return norm == NormPlace::before; }  // after: the last block's is the last; none: no norms at all
};

/// Constants of a model, made from the blocks of its supernet, N_max: subnets of every depth share them (methods: which N?).
struct ResidualConstants {
  double branch_scale = 1;  // s
  double skip_scale = 1;    // α
};

/// Mean and standard deviation of a tensor's first values.
struct Start {
  double mean = 0, deviation = 0;
};

struct ResidualRuleEntry {
  ResidualRule rule;
  std::string_view name, help;
  ResidualForm form;
  ResidualConstants (*constants)(int blocks);
  Start (*start)(const TensorSpec& tensor, const SearchSpace& space);  // null: as train.init says (supernet/initialization.hpp)
  double (*first_gate)(int blocks) = nullptr;                          // of a rule without a start of its own, whose gates have one
  bool profiled = false;                                               // skip gains start from a forward pass (supernet/skip_profile.hpp)
  bool zero_head = false;                                              // the head starts at 0, so it cannot be the token embedding
};

std::span<const ResidualRuleEntry* const> residual_rules();
const ResidualRuleEntry& residual_rule(ResidualRule rule);
const ResidualForm& residual_form(const ModelConfig& model);
/// s of a subnet of `depth` blocks; a model whose rule does not follow the depth needs none.
double branch_scale(const ModelConfig& model, int depth);

}  // namespace elastiform
