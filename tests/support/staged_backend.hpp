#pragma once

#include <string_view>

#include "kernels/backend.hpp"

namespace elastiform {

/// A device's backend behind the host's memory, so that tests whose matrices are there run on it: copies what an operation's views refer to
/// into the device's memory, runs it, and copies back. Views whose memory overlaps share one copy, at the same offsets from each other and
/// from a multiple of 256 bytes. Around each copy stands NaN. Throws std::logic_error for an operation that writes there, or to an operand
/// that it only reads. Panels are those of the CPU: what a case sums over them is the same.
class StagedBackend final : public Backend {
 public:
  explicit StagedBackend(Backend& device) : device_(device) {}
  std::string_view name() const override { return device_.name(); }
  DType dtype() const override { return device_.dtype(); }
  Precision precision() const override { return device_.precision(); }
  void for_each(std::int64_t count, FunctionRef<void(std::int64_t)> body) override {
    for (std::int64_t i = 0; i < count; ++i) body(i);
  }
  int slots() const override { return 1; }
  int slot() const override { return 0; }

 private:
  void do_matmul(const Matmul& op) override { run_staged(op, &Backend::matmul); }
  void do_matmul_dx(const MatmulDx& op) override { run_staged(op, &Backend::matmul_dx); }
  void do_matmul_dw(const MatmulDw& op) override { run_staged(op, &Backend::matmul_dw); }
  void do_norm_forward(const NormForward& op) override { run_staged(op, &Backend::norm_forward); }
  void do_norm_backward(const NormBackward& op) override { run_staged(op, &Backend::norm_backward); }
  void do_affine_forward(const AffineForward& op) override { run_staged(op, &Backend::affine_forward); }
  void do_affine_backward(const AffineBackward& op) override { run_staged(op, &Backend::affine_backward); }
  void do_sum_panels(const SumPanels& op) override { run_staged(op, &Backend::sum_panels); }
  void do_swiglu_forward(const SwigluForward& op) override { run_staged(op, &Backend::swiglu_forward); }
  void do_swiglu_backward(const SwigluBackward& op) override { run_staged(op, &Backend::swiglu_backward); }
  void do_gelu_forward(const GeluForward& op) override { run_staged(op, &Backend::gelu_forward); }
  void do_gelu_backward(const GeluBackward& op) override { run_staged(op, &Backend::gelu_backward); }
  void do_hadamard(const Hadamard& op) override { run_staged(op, &Backend::hadamard); }
  void do_rope(const Rope& op) override { run_staged(op, &Backend::rope); }
  void do_dropout(const Dropout& op) override { run_staged(op, &Backend::dropout); }
  void do_embedding_forward(const EmbeddingForward& op) override { run_staged(op, &Backend::embedding_forward); }
  void do_embedding_backward(const EmbeddingBackward& op) override { run_staged(op, &Backend::embedding_backward); }
  void do_scatter_rows(const ScatterRows& op) override { run_staged(op, &Backend::scatter_rows); }
  void do_attention_forward(const AttentionForward& op) override { run_staged(op, &Backend::attention_forward); }
  void do_attention_backward(const AttentionBackward& op) override { run_staged(op, &Backend::attention_backward); }
  void do_softmax_loss(const SoftmaxLoss& op) override { run_staged(op, &Backend::softmax_loss); }
  void do_compress(const Compress& op) override { run_staged(op, &Backend::compress); }
  void do_decompress(const Decompress& op) override { run_staged(op, &Backend::decompress); }
  void do_round(const Round& op) override { run_staged(op, &Backend::round); }
  void do_adamw(const Adamw& op) override { run_staged(op, &Backend::adamw); }
  void do_adamw_8bit(const Adamw8bit& op) override { run_staged(op, &Backend::adamw_8bit); }
  void do_momentum_step(const MomentumStep& op) override { run_staged(op, &Backend::momentum_step); }
  void do_factored_moments(const FactoredMoments& op) override { run_staged(op, &Backend::factored_moments); }
  void do_factored_step(const FactoredStep& op) override { run_staged(op, &Backend::factored_step); }
  StepSquares do_adamw_direction(const AdamwDirection& op) override;
  StepSquares do_factored_squares(const FactoredStep& step) override;
  double do_sum_squares(ConstView x) override;
  double do_sum(ConstView row) override;
  void do_copy(View to, ConstView from) override;
  void do_zero(View x) override;
  void do_scale(View x, double factor) override;
  void do_add(View to, ConstView from, double factor) override;
  void do_multiply(View to, ConstView from) override;

  template <class Op>
  void run_staged(const Op& op, void (Backend::*operation)(const Op&));

  Backend& device_;
};

}  // namespace elastiform
