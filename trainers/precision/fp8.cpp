#include "trainers/precision/fp8.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace elastiform {
namespace {

constexpr NumberFormat format_of(OperandSide side) { return side == OperandSide::activation ? NumberFormat::e4m3 : NumberFormat::e5m2; }

std::size_t rounded_tensors(const WeightTable& table) {
  return static_cast<std::size_t>(std::count_if(table.tensors().begin(), table.tensors().end(), RoundedWeights::rounds));
}

std::vector<int> numbers_of_rounded(const WeightTable& table) {
  std::vector<int> numbers;
  int next = 0;
  for (const TensorSpec& tensor : table.tensors()) numbers.push_back(RoundedWeights::rounds(tensor) ? next++ : -1);
  return numbers;
}

double largest_magnitude(ConstView x) {
  float largest = 0;
  for (std::int64_t row = 0; row < x.rows; ++row)
    for (std::int64_t c = 0; c < x.columns; ++c) largest = std::max(largest, std::abs(x.row<float>(row)[c]));
  return static_cast<double>(largest);
}

}  // namespace

Fp8::Fp8(const TrainOptions& options, std::shared_ptr<const WeightTable> table, Backend& backend)
    : weights_(table, backend), rounded_(numbers_of_rounded(*table)),
      scaling_(2 * rounded_tensors(*table), static_cast<std::size_t>(options.fp8_window)), weight_scales_(table->tensors().size(), 1),
      largest_(2 * rounded_tensors(*table)) {
  for (std::atomic<float>& one : largest_) one = -1;
}

std::size_t Fp8::operand_of(const std::byte* weight, OperandSide side) const {
  const int tensor = weights_.tensor_at(weight, gradients_);
  return tensor < 0 ? largest_.size()
                    : 2 * static_cast<std::size_t>(rounded_[static_cast<std::size_t>(tensor)]) + static_cast<std::size_t>(side);
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
  const std::size_t operand = operand_of(weight, side);
  if (operand == largest_.size()) return {};
  return {.rounds = true, .measures = true, .format = format_of(side), .scale = scaling_.scale(operand), .saturates = true};
}

void Fp8::saw(const std::byte* weight, OperandSide side, float largest) {
  std::atomic<float>& held = largest_[operand_of(weight, side)];
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

std::int64_t Fp8::bytes() const {
  const std::size_t doubles = weight_scales_.size() + scaling_.scales().size() + scaling_.history().size();
  return weights_.bytes() + static_cast<std::int64_t>(doubles * sizeof(double) + largest_.size() * sizeof(float));
}

std::int64_t Fp8::number_bytes(const TrainOptions& options, const WeightTable& table) {
  const auto operands = static_cast<std::int64_t>(2 * rounded_tensors(table));
  const std::int64_t doubles = static_cast<std::int64_t>(table.tensors().size()) + operands * (1 + options.fp8_window);
  return doubles * static_cast<std::int64_t>(sizeof(double)) + operands * static_cast<std::int64_t>(sizeof(float));
}

std::map<std::string, std::vector<double>*> Fp8::numbers() {
  return {{"fp8_scale", &scaling_.scales()}, {"fp8_largest", &scaling_.history()}};
}

}  // namespace elastiform
