#include "trainers/precision/fp8.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace elastiform {
namespace {

constexpr NumberFormat format_of(OperandSide side) { return side == OperandSide::activation ? NumberFormat::e4m3 : NumberFormat::e5m2; }

std::size_t operand_of(int tensor, OperandSide side) { return 2 * static_cast<std::size_t>(tensor) + static_cast<std::size_t>(side); }

double largest_magnitude(ConstView x) {
  float largest = 0;
  for (std::int64_t row = 0; row < x.rows; ++row)
    for (std::int64_t c = 0; c < x.columns; ++c) largest = std::max(largest, std::abs(x.row<float>(row)[c]));
  return static_cast<double>(largest);
}

}  // namespace

Fp8::Fp8(const TrainOptions& options, std::shared_ptr<const WeightTable> table, Backend& backend)
    : weights_(table, backend), scaling_(2 * table->tensors().size(), static_cast<std::size_t>(options.fp8_window)),
      weight_scales_(table->tensors().size(), 1), largest_(2 * table->tensors().size()) {
  for (std::atomic<float>& one : largest_) one = -1;
}

const Weights& Fp8::begin_step(Backend& backend, const Weights& weights, const ActiveBands& active) {
  const std::vector<TensorSpec>& tensors = weights.table().tensors();
  backend.for_each(static_cast<std::int64_t>(tensors.size()), [&](std::int64_t i) {
    const TensorSpec& tensor = tensors[static_cast<std::size_t>(i)];
    if (!RoundedWeights::rounds(tensor)) return;
    const double largest = largest_magnitude(weights.view(tensor));
    if (largest > 0 && std::isfinite(largest))
      weight_scales_[static_cast<std::size_t>(i)] = static_cast<double>(limits_of(NumberFormat::e4m3).largest) / largest;
  });
  return weights_.update(backend, weights, active, NumberFormat::e4m3, weight_scales_);
}

void Fp8::begin_passes(Backend& backend, const Weights& gradients) {
  gradients_ = &gradients;
  backend.round_operands(this);
}

void Fp8::end_passes(Backend& backend) { backend.round_operands(nullptr); }

OperandRounding::Rule Fp8::rule(const std::byte* weight, OperandSide side) const {
  const int tensor = weights_.tensor_at(weight, gradients_);
  if (tensor < 0) return {};
  return {
      .rounds = true, .measures = true, .format = format_of(side), .scale = scaling_.scale(operand_of(tensor, side)), .saturates = true};
}

void Fp8::saw(const std::byte* weight, OperandSide side, float largest) {
  std::atomic<float>& held = largest_[operand_of(weights_.tensor_at(weight, gradients_), side)];
  float before = held.load(std::memory_order_relaxed);
  while (before < largest && !held.compare_exchange_weak(before, largest, std::memory_order_relaxed)) {
  }
}

void Fp8::end_step(std::span<const Subnet> /*subnets*/, std::span<const LossReport> /*losses*/, bool taken) {
  for (std::size_t operand = 0; operand < largest_.size(); ++operand) {
    const float largest = largest_[operand].exchange(-1, std::memory_order_relaxed);
    // A step that is skipped leaves no trace, and an operand that no subnet of it has keeps its history.
    if (taken && largest >= 0) scaling_.record(operand, static_cast<double>(largest), format_of(static_cast<OperandSide>(operand % 2)));
  }
}

std::map<std::string, std::vector<double>*> Fp8::numbers() {
  return {{"fp8_scale", &scaling_.scales()}, {"fp8_largest", &scaling_.history()}};
}

}  // namespace elastiform
