#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/function_ref.hpp"
#include "kernels/ops/attention.hpp"
#include "kernels/ops/elementwise.hpp"
#include "kernels/ops/kinds.hpp"
#include "kernels/ops/loss.hpp"
#include "kernels/ops/matmul.hpp"
#include "kernels/ops/norm.hpp"
#include "kernels/ops/optimizer.hpp"
#include "kernels/precision.hpp"
#include "kernels/timed_call.hpp"

namespace elastiform {

/// What a memory plan must know of a backend: in which type it computes, in which it stores operands, and how many workers it has.
struct BackendTraits {
  DType dtype = DType::float32, operand = DType::float32;
  int slots = 1;
};
/// Those of a CpuBackend, where there is none yet.
constexpr BackendTraits traits_of(Precision precision, int slots) {
  return {DType::float32, precision == Precision::bf16 ? DType::bfloat16 : DType::float32, slots};
}

/// The arithmetic of one device; each operation is described beside its struct in kernels/ops/. Forward writes its outputs; backward
/// writes input gradients and adds to weight gradients. Public functions check shapes and trace once; the do_ functions trust them.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;                      // "reference", "cpu"
  virtual DType dtype() const = 0;                                // that it computes in: of every view, but of operands
  virtual Precision precision() const { return Precision::f32; }  // of its products
  /// In bf16 the matrices between products, which these would round anyway, may be stored in bfloat16: operand_dtype() says in which
  /// type they belong. Each operation's `kOperands` names them.
  DType operand_dtype() const { return precision() == Precision::bf16 ? DType::bfloat16 : dtype(); }
  BackendTraits traits() const { return {dtype(), operand_dtype(), slots()}; }

  /// Calls body(rows) for panels of kPanelRows of N rows (the last is shorter), possibly at the same time on several workers. Bounds
  /// depend on N only. Operations inside run serially, so a panel's data stays in its core's L2. What they take as `w` is the same in all
  /// panels and does not change before the loop ends: a backend may prepare it once.
  void panels(std::int64_t N, FunctionRef<void(Rows)> body);
  static std::int64_t panel_count(std::int64_t N) { return (N + kPanelRows - 1) / kPanelRows; }

  /// body(0) … body(count-1), possibly at the same time on several workers.
  virtual void for_each(std::int64_t count, FunctionRef<void(std::int64_t)> body) = 0;
  /// Workers that can be inside a body at once, and the index of the calling one: scratch memory is kept per slot.
  virtual int slots() const = 0;
  virtual int slot() const = 0;
  /// At most what operations on weights of up to rows x columns allocate for themselves and keep; in_panels: in loops over panels too.
  virtual std::int64_t workspace_bytes(std::int64_t /*rows*/, std::int64_t /*columns*/, bool /*in_panels*/) const { return 0; }

  // Inside panels
  void matmul(const Matmul& op) { run(op, &Backend::do_matmul); }
  void matmul_dx(const MatmulDx& op) { run(op, &Backend::do_matmul_dx); }
  void norm_forward(const NormForward& op) { run(op, &Backend::do_norm_forward); }
  void norm_backward(const NormBackward& op) { run(op, &Backend::do_norm_backward); }
  void swiglu_forward(const SwigluForward& op) { run(op, &Backend::do_swiglu_forward); }
  void swiglu_backward(const SwigluBackward& op) { run(op, &Backend::do_swiglu_backward); }
  void gelu_forward(const GeluForward& op) { run(op, &Backend::do_gelu_forward); }
  void gelu_backward(const GeluBackward& op) { run(op, &Backend::do_gelu_backward); }
  void rope(const Rope& op) { run(op, &Backend::do_rope); }
  void softmax_loss(const SoftmaxLoss& op) { run(op, &Backend::do_softmax_loss); }
  void adamw(const Adamw& op) { run(op, &Backend::do_adamw); }

  // Outside panels: parallel inside
  void matmul_dw(const MatmulDw& op) { run(op, &Backend::do_matmul_dw); }
  void sum_panels(const SumPanels& op) { run(op, &Backend::do_sum_panels); }
  void embedding_forward(const EmbeddingForward& op) { run(op, &Backend::do_embedding_forward); }
  void embedding_backward(const EmbeddingBackward& op) { run(op, &Backend::do_embedding_backward); }
  void attention_forward(const AttentionForward& op) { run(op, &Backend::do_attention_forward); }
  void attention_backward(const AttentionBackward& op) { run(op, &Backend::do_attention_backward); }

  /// Σ x² in double over fixed chunks (kElementChunk elements of a row, then rows in a fixed tree). Serial: spread with for_each.
  /// Not finite exactly when some element is not finite or its square overflows.
  double sum_squares(ConstView x);

 private:
  // Around a loop over panels: until its end the weights stay as they are.
  virtual void panels_begin(std::int64_t /*count*/) {}
  virtual void panels_end() {}

  virtual void do_matmul(const Matmul& op) = 0;
  virtual void do_matmul_dx(const MatmulDx& op) = 0;
  virtual void do_matmul_dw(const MatmulDw& op) = 0;
  virtual void do_norm_forward(const NormForward& op) = 0;
  virtual void do_norm_backward(const NormBackward& op) = 0;
  virtual void do_sum_panels(const SumPanels& op) = 0;
  virtual void do_swiglu_forward(const SwigluForward& op) = 0;
  virtual void do_swiglu_backward(const SwigluBackward& op) = 0;
  virtual void do_gelu_forward(const GeluForward& op) = 0;
  virtual void do_gelu_backward(const GeluBackward& op) = 0;
  virtual void do_rope(const Rope& op) = 0;
  virtual void do_embedding_forward(const EmbeddingForward& op) = 0;
  virtual void do_embedding_backward(const EmbeddingBackward& op) = 0;
  virtual void do_attention_forward(const AttentionForward& op) = 0;
  virtual void do_attention_backward(const AttentionBackward& op) = 0;
  virtual void do_softmax_loss(const SoftmaxLoss& op) = 0;
  virtual void do_adamw(const Adamw& op) = 0;
  virtual double do_sum_squares(ConstView x) = 0;

  template <class Op>
  void run(const Op& op, void (Backend::*compute)(const Op&)) {
    const TimedCall call = begin(op);
    (this->*compute)(op);
  }
  template <class Op>
  TimedCall begin(const Op& op);  // backend.cpp: check(), element types, trace
};

}  // namespace elastiform
