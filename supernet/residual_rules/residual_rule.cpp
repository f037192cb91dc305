#include "supernet/residual_rules/residual_rule.hpp"

#include <array>
#include <cmath>
#include <stdexcept>

#include "supernet/residual_rules/rules.hpp"

namespace elastiform {
namespace {

/// In the order of ResidualRule; the rows are constants of other files.
constexpr std::array<const ResidualRuleEntry*, 9> kRules{&kBranchScale, &kBranchScaleByDepth, &kLayerScale, &kRezero, &kSkipInit, &kFixup,
                                                         &kTFixup,      &kDeepNorm,           &kAdmin};

}  // namespace

std::span<const ResidualRuleEntry* const> residual_rules() { return kRules; }

const ResidualRuleEntry& residual_rule(ResidualRule rule) { return *kRules[static_cast<std::size_t>(rule)]; }

const ResidualForm& residual_form(const ModelConfig& model) { return residual_rule(model.residual).form; }

double branch_scale(const ModelConfig& model, int depth) {
  if (!residual_form(model).scales_by_depth) return model.branch_scale;
  if (depth < 1) throw std::logic_error("a branch scale that follows the depth of a subnet, without one");
  return branch_scale_of(depth);
}

double branch_scale_of(int blocks) { return 1 / std::sqrt(2.0 * blocks); }

Start gpt2_start(const TensorSpec& tensor) {
  switch (tensor.role) {
    case Role::gain: return {.mean = 1};
    case Role::bias:
    case Role::gate:
    case Role::shift: return {};
    default: return {.deviation = 0.02};
  }
}

Start xavier_start(const TensorSpec& tensor) {
  Start start = gpt2_start(tensor);
  if (start.deviation == 0) return start;
  if (tensor.role == Role::embedding) return {.deviation = 1 / std::sqrt(static_cast<double>(tensor.columns))};
  return {.deviation = std::sqrt(2.0 / static_cast<double>(tensor.rows + tensor.columns))};
}

std::string_view part_of(const TensorSpec& tensor) {
  const std::string_view name = tensor.name;
  return tensor.block < 0 ? name : name.substr(name.find('.', name.find('.') + 1) + 1);
}

bool carries_signal(const TensorSpec& tensor) {
  if (tensor.block < 0 || (tensor.role != Role::matrix && tensor.role != Role::residual_out)) return false;
  const std::string_view part = part_of(tensor);
  return part != "attention.query" && part != "attention.key";
}

}  // namespace elastiform
