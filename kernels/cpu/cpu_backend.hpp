#pragma once

#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cpu/gemm_bf16.hpp"
#include "kernels/cpu/identity.hpp"
#include "kernels/parallel.hpp"
#include "kernels/precision.hpp"

namespace elastiform {

/// float32 on the CPU: all of it in Google Highway, its own GEMM included, parallel over `pool` (one of size 1: serial; an evaluator
/// that spreads data over workers gives each a serial backend). The bits of a result do not depend on the pool. With precision bf16
/// products multiply bf16, packed from matrices of float32 or bfloat16, and sum in float32: throws InputError on a CPU that cannot. One
/// caller at a time: it keeps what it packs.
class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const ThreadPool& pool, Precision precision = Precision::f32);
  ~CpuBackend() override;
  std::string_view name() const override { return "cpu"; }
  DType dtype() const override { return DType::float32; }
  Precision precision() const override { return precision_; }
  std::string arithmetic() const override { return isa_name(precision_); }
  void for_each(std::int64_t count, FunctionRef<void(std::int64_t)> body) override { pool_.for_each(count, body); }
  int slots() const override { return pool_.size(); }
  int slot() const override { return pool_.slot(); }
  void round_operands(OperandRounding* rounding) override;
  bool rounds_operands() const override { return precision_ == Precision::f32; }
  std::int64_t rounding_workspace_bytes(std::int64_t rows, std::int64_t columns) const override;
  std::int64_t workspace_bytes(std::int64_t rows, std::int64_t columns, bool in_panels) const override;
  /// What it has packed and keeps.
  std::int64_t kept_bytes() const { return packs_.bytes() + accumulate_.bytes(); }
  /// The part of it that weights in loops over panels take: all that a serial backend adds to its caller's.
  static std::int64_t packed_weight_bytes(Precision precision, std::int64_t rows, std::int64_t columns);
  /// That of one table of tokens, rows x columns, whose products are turned.
  static std::int64_t packed_table_bytes(Precision precision, std::int64_t rows, std::int64_t columns);

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
  void do_add(View to, ConstView from, double factor) override;
  double do_sum_squares(ConstView x) override;

  void panels_begin(std::int64_t count) override {
    if (count > 1) packs_.open();
  }
  void panels_end() override { packs_.close(); }

  // rounded_operands.cpp: what products multiply while they emulate a narrower format.
  struct RoundedOperand {
    MemoryBlock memory;
    std::int64_t bytes = 0;
    View of(std::int64_t rows, std::int64_t columns);  // grows, and keeps nothing of what it held
  };
  void round_operand(View to, ConstView from, const std::byte* weight, OperandSide side);
  ConstView rounded_operand(ConstView x, ConstView weight, OperandSide side);
  bool rounds(const MatmulDw& op) const;
  void rounded_matmul_dw(const MatmulDw& op);

  void accumulate_dw(const MatmulDw& op);
  void multiply(const cpu::Product& op);
  void accumulate_bf16(const cpu::Accumulation& op);

  const ThreadPool& pool_;
  const Precision precision_;
  cpu::SharedPacks packs_;
  cpu::AccumulateBf16 accumulate_;
  OperandRounding* rounding_ = nullptr;
  std::vector<RoundedOperand> rounded_;  // of each worker
  RoundedOperand rounded_x_, rounded_dy_;
};

}  // namespace elastiform
