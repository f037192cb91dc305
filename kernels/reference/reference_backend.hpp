#pragma once

#include "kernels/backend.hpp"

namespace elastiform {

/// Plain float64 loops on one thread, for tests only: finite differences run the product's layers on it, and every other backend is
/// compared with it.
class ReferenceBackend final : public Backend {
 public:
  std::string_view name() const override { return "reference"; }
  DType dtype() const override { return DType::float64; }
  void for_each(std::int64_t count, FunctionRef<void(std::int64_t)> body) override;
  int slots() const override { return 1; }
  int slot() const override { return 0; }

 private:
  void do_matmul(const Matmul& op) override;
  void do_matmul_dx(const MatmulDx& op) override;
  void do_matmul_dw(const MatmulDw& op) override;
  void do_norm_forward(const NormForward& op) override;
  void do_norm_backward(const NormBackward& op) override;
  void do_affine_forward(const AffineForward& op) override;
  void do_affine_backward(const AffineBackward& op) override;
  void do_sum_panels(const SumPanels& op) override;
  void do_swiglu_forward(const SwigluForward& op) override;
  void do_swiglu_backward(const SwigluBackward& op) override;
  void do_gelu_forward(const GeluForward& op) override;
  void do_gelu_backward(const GeluBackward& op) override;
  void do_hadamard(const Hadamard& op) override;
  void do_rope(const Rope& op) override;
  void do_dropout(const Dropout& op) override;
  void do_embedding_forward(const EmbeddingForward& op) override;
  void do_embedding_backward(const EmbeddingBackward& op) override;
  void do_scatter_rows(const ScatterRows& op) override;
  void do_attention_forward(const AttentionForward& op) override;
  void do_attention_backward(const AttentionBackward& op) override;
  void do_softmax_loss(const SoftmaxLoss& op) override;
  void do_compress(const Compress& op) override;
  void do_decompress(const Decompress& op) override;
  void do_round(const Round& op) override;
  void do_adamw(const Adamw& op) override;
  void do_adamw_8bit(const Adamw8bit& op) override;
  void do_momentum_step(const MomentumStep& op) override;
  void do_factored_moments(const FactoredMoments& op) override;
  void do_factored_step(const FactoredStep& op) override;
  StepSquares do_adamw_direction(const AdamwDirection& op) override;
  StepSquares do_factored_squares(const FactoredStep& step) override;
  double do_sum_squares(ConstView x) override;
};

}  // namespace elastiform
