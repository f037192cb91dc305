#include "supernet/rotary.hpp"

#include <cmath>
#include <cstddef>
#include <numbers>

namespace elastiform {
namespace {

double plain_frequency(const ModelConfig& model, int i) { return std::pow(model.rope_theta, -2.0 * i / model.head_dim); }

/// 1 for waves that the original context holds high_factor times, the factor for those that it does not hold low_factor times, and between
/// them what a straight line between the two frequencies gives.
double llama3_divisor(const RopeScaling& rule, double frequency) {
  const double waves = rule.original_context * frequency / (2 * std::numbers::pi);  // in the original context
  if (waves < rule.low_factor) return rule.factor;
  if (waves > rule.high_factor) return 1;
  const double kept = (waves - rule.low_factor) / (rule.high_factor - rule.low_factor);
  return 1 / ((1 - kept) / rule.factor + kept);
}

}  // namespace

std::vector<double> rotary_divisors(const ModelConfig& model) {
  const RopeScaling& rule = model.rope_scaling;
  std::vector<double> divisors(static_cast<std::size_t>(model.head_dim / 2), 1);
  for (int i = 0; i < model.head_dim / 2; ++i) {
    double& divisor = divisors[static_cast<std::size_t>(i)];
    if (rule.kind == RopeStretch::linear) divisor = rule.factor;
    if (rule.kind == RopeStretch::llama3) divisor = llama3_divisor(rule, plain_frequency(model, i));
  }
  return divisors;
}

std::vector<double> rotary_frequencies(const ModelConfig& model) {
  std::vector<double> frequencies = rotary_divisors(model);
  for (int i = 0; i < model.head_dim / 2; ++i) {
    double& frequency = frequencies[static_cast<std::size_t>(i)];
    frequency = plain_frequency(model, i) / frequency;
  }
  return frequencies;
}

}  // namespace elastiform
