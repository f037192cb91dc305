#include "trainers/precision/fp16.hpp"

#include <algorithm>
#include <utility>

#include "kernels/errors.hpp"

namespace elastiform {

Fp16::Fp16(const TrainOptions& options, std::shared_ptr<const WeightTable> table, Backend& backend)
    : weights_(table, backend), scaler_(options.loss_scale), widths_(table->space().embed()), passes_(widths_.size(), 0),
      overflows_(widths_.size(), 0), scales_(table->tensors().size(), 1) {}

const Weights& Fp16::begin_step(Backend& backend, const Weights& weights, const ActiveBands& active) {
  return weights_.update(backend, weights, active, NumberFormat::float16, scales_);
}

void Fp16::begin_passes(Backend& backend, const Weights& gradients) {
  gradients_ = &gradients;
  backend.round_operands(this);
}

void Fp16::end_passes(Backend& backend) { backend.round_operands(nullptr); }

OperandRounding::Rule Fp16::rule(const std::byte* weight, OperandSide /*side*/) const {
  return {.rounds = weights_.tensor_at(weight, gradients_) >= 0, .format = NumberFormat::float16};
}

void Fp16::end_step(std::span<const Subnet> subnets, std::span<const LossReport> losses, bool taken) {
  for (std::size_t i = 0; i < subnets.size(); ++i) {
    const auto width = static_cast<std::size_t>(std::find(widths_.begin(), widths_.end(), subnets[i].embed) - widths_.begin());
    passes_[width] += 1;
    if (!losses[i].finite) overflows_[width] += 1;
  }
  if (!scaler_.update(!taken))
    throw InputError({"train.precision = fp16", "finite losses and gradients", "none at a loss scale of 1",
                      "the training diverges: use a lower rate, or bf16"});
}

std::map<std::string, std::vector<double>*> Fp16::numbers() {
  return {{"loss_scale", &scaler_.state()}, {"passes", &passes_}, {"overflows", &overflows_}};
}

std::string Fp16::summary() const {
  std::string text = "loss scale " + std::to_string(static_cast<std::int64_t>(scaler_.scale()));
  for (std::size_t i = 0; i < widths_.size(); ++i)
    if (overflows_[i] > 0)
      text += ", embed " + std::to_string(widths_[i]) + " overflowed in " + std::to_string(static_cast<std::int64_t>(overflows_[i])) +
              " of " + std::to_string(static_cast<std::int64_t>(passes_[i])) + " passes";
  return text;
}

}  // namespace elastiform
