#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kernels/function_ref.hpp"
#include "kernels/memory_block.hpp"
#include "kernels/operand_rounding.hpp"
#include "kernels/ops/affine.hpp"
#include "kernels/ops/attention.hpp"
#include "kernels/ops/compression.hpp"
#include "kernels/ops/dropout.hpp"
#include "kernels/ops/elementwise.hpp"
#include "kernels/ops/kinds.hpp"
#include "kernels/ops/loss.hpp"
#include "kernels/ops/matmul.hpp"
#include "kernels/ops/norm.hpp"
#include "kernels/ops/optimizer.hpp"
#include "kernels/ops/rounding.hpp"
#include "kernels/precision.hpp"
#include "kernels/timed_call.hpp"

namespace elastiform {

/// What a memory plan must know of a backend: in which type it computes, in which it stores operands, how many workers it has, and how
/// many rows each takes at a time.
struct BackendTraits {
  DType dtype = DType::float32, operand = DType::float32;
  int slots = 1;
  std::int64_t panel_rows = kPanelRows;

  /// Operations are parallel inside, so loops over panels and pieces run their body once.
  bool takes_all_rows() const { return panel_rows == kAllRows; }
  std::int64_t panel_count(std::int64_t rows) const { return (rows + panel_rows - 1) / panel_rows; }
};
/// Those of a CpuBackend, where there is none yet.
constexpr BackendTraits traits_of(Precision precision, int slots) {
  return {DType::float32, precision == Precision::bf16 ? DType::bfloat16 : DType::float32, slots, kPanelRows};
}

/// What the operations of a piece of work depend on: sizes and addresses. The last elements may stay 0.
using RepeatKey = std::array<std::int64_t, 17>;
inline std::int64_t address(const void* memory) { return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(memory)); }

class Communicator;
class Link;
/// Makes a link between devices, whose messages are queued in a stream of this one. Called by every rank; nullptr, on all: there is none.
using LinkMaker = std::unique_ptr<Link> (*)(Communicator& ranks, void* stream);

/// The arithmetic of one device; each operation is described beside its struct in kernels/ops/. Forward writes its outputs; backward
/// writes input gradients and adds to weight gradients. Public functions check shapes and trace once; the do_ functions trust them.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;                      // "reference", "cpu", "cuda", "cuda-on-host"
  virtual DType dtype() const = 0;                                // that it computes in: of every view, but of operands
  virtual Precision precision() const { return Precision::f32; }  // of its products
  /// In bf16 the matrices between products, which these would round anyway, may be stored in bfloat16: operand_dtype() says in which
  /// type they belong. Each operation's `kOperands` names them.
  DType operand_dtype() const { return precision() == Precision::bf16 ? DType::bfloat16 : dtype(); }
  BackendTraits traits() const { return {dtype(), operand_dtype(), slots(), panel_rows()}; }
  /// What its bits depend on besides the program: an instruction set, a device.
  virtual std::string arithmetic() const { return std::string(name()); }
  /// Returns when all that was asked is done: before another backend reads what this one wrote.
  virtual void wait() {}
  /// Where all views of its operations live.
  virtual MemorySpace& memory() const { return host_memory(); }
  /// Between this memory and the other ranks', in the order of the work that is asked for. Called by every rank; nullptr, on all: there is
  /// none, and messages go through the host's memory. Gone before the backend is.
  virtual std::unique_ptr<Link> make_link(Communicator& ranks);

  /// Calls body(rows) for panels of panel_rows() of N rows (the last is shorter), possibly at the same time on several workers. Bounds
  /// depend on N only. Operations inside run serially, so a panel's data stays in its core's L2. What they take as `w` is the same in all
  /// panels and does not change before the loop ends: a backend may prepare it once.
  void panels(std::int64_t N, FunctionRef<void(Rows)> body);
  virtual std::int64_t panel_rows() const { return kPanelRows; }

  /// body(0) … body(count-1), possibly at the same time on several workers.
  virtual void for_each(std::int64_t count, FunctionRef<void(std::int64_t)> body) = 0;
  /// body() asks for the same operations on the same views whenever the key is the same, and for nothing of the host's: no tokens, targets
  /// or numbers; a device may record it and run it at one stroke. It may be called several times, and must not mind.
  virtual void repeated(const RepeatKey& key, FunctionRef<void()> body) {
    static_cast<void>(key);
    body();
  }

  /// Workers that can be inside a body at once, and the index of the calling one: scratch memory is kept per slot.
  virtual int slots() const = 0;
  virtual int slot() const = 0;
  /// At most what operations on weights of up to rows x columns allocate for themselves and keep; in_panels: in loops over panels too.
  virtual std::int64_t workspace_bytes(std::int64_t /*rows*/, std::int64_t /*columns*/, bool /*in_panels*/) const { return 0; }

  /// From now on products round their operands as it says, or null: no longer. A backend that cannot says so by rounds_operands().
  virtual void round_operands(OperandRounding* rounding);
  virtual bool rounds_operands() const { return false; }
  /// What workspace_bytes() is more by then.
  virtual std::int64_t rounding_workspace_bytes(std::int64_t /*rows*/, std::int64_t /*columns*/) const { return 0; }

  // Inside panels
  void matmul(const Matmul& op) { run(op, &Backend::do_matmul); }
  void matmul_dx(const MatmulDx& op) { run(op, &Backend::do_matmul_dx); }
  void norm_forward(const NormForward& op) { run(op, &Backend::do_norm_forward); }
  void norm_backward(const NormBackward& op) { run(op, &Backend::do_norm_backward); }
  void affine_forward(const AffineForward& op) { run(op, &Backend::do_affine_forward); }
  void affine_backward(const AffineBackward& op) { run(op, &Backend::do_affine_backward); }
  void swiglu_forward(const SwigluForward& op) { run(op, &Backend::do_swiglu_forward); }
  void swiglu_backward(const SwigluBackward& op) { run(op, &Backend::do_swiglu_backward); }
  void gelu_forward(const GeluForward& op) { run(op, &Backend::do_gelu_forward); }
  void gelu_backward(const GeluBackward& op) { run(op, &Backend::do_gelu_backward); }
  void hadamard(const Hadamard& op) { run(op, &Backend::do_hadamard); }
  void rope(const Rope& op) { run(op, &Backend::do_rope); }
  void dropout(const Dropout& op) { run(op, &Backend::do_dropout); }
  void softmax_loss(const SoftmaxLoss& op) { run(op, &Backend::do_softmax_loss); }
  void compress(const Compress& op) { run(op, &Backend::do_compress); }
  void decompress(const Decompress& op) { run(op, &Backend::do_decompress); }
  void round(const Round& op) { run(op, &Backend::do_round); }
  void adamw(const Adamw& op) { run(op, &Backend::do_adamw); }
  void adamw_8bit(const Adamw8bit& op) { run(op, &Backend::do_adamw_8bit); }
  void momentum_step(const MomentumStep& op) { run(op, &Backend::do_momentum_step); }
  void factored_moments(const FactoredMoments& op) { run(op, &Backend::do_factored_moments); }
  void factored_step(const FactoredStep& op) { run(op, &Backend::do_factored_step); }

  // Outside panels: parallel inside
  void matmul_dw(const MatmulDw& op) { run(op, &Backend::do_matmul_dw); }
  void sum_panels(const SumPanels& op) { run(op, &Backend::do_sum_panels); }
  void embedding_forward(const EmbeddingForward& op) { run(op, &Backend::do_embedding_forward); }
  void embedding_backward(const EmbeddingBackward& op) { run(op, &Backend::do_embedding_backward); }
  void scatter_rows(const ScatterRows& op) { run(op, &Backend::do_scatter_rows); }
  void attention_forward(const AttentionForward& op) { run(op, &Backend::do_attention_forward); }
  void attention_backward(const AttentionBackward& op) { run(op, &Backend::do_attention_backward); }

  /// sums[i] = Σ x² of views[i], in double over fixed chunks (kElementChunk elements of a row, then rows in a fixed tree). Parallel over
  /// the views. Not finite exactly when some element is not finite or its square overflows. Called outside panels.
  void sum_squares(std::span<const ConstView> views, std::span<double> sums);
  double sum_squares(ConstView x) {
    double sum = 0;
    sum_squares(std::span(&x, 1), std::span(&sum, 1));
    return sum;
  }
  /// squares[i] of ops[i], in double in a fixed order. Parallel over them. Called outside panels.
  void adamw_directions(std::span<const AdamwDirection> ops, std::span<StepSquares> squares);
  /// The same of what factored steps would do, with u as direction; nothing moves.
  void factored_squares(std::span<const FactoredStep> steps, std::span<StepSquares> squares);
  /// Σ x of a row, in double in a fixed order. Called outside panels.
  double sum(ConstView row);

  // Of any element type; inside and outside panels.
  /// Same shape and element type; either may be in the host's memory too. Returns when a copy to the host is done.
  void copy(View to, ConstView from);
  void zero(View x);
  void scale(View x, double factor);

  /// to += factor · from and to *= from, element by element, in the backend's type. Spread with for_each.
  void add(View to, ConstView from, double factor = 1);
  void multiply(View to, ConstView from);

 private:
  // Around a loop over panels: until its end the weights stay as they are.
  virtual void panels_begin(std::int64_t /*count*/) {}
  virtual void panels_end() {}

  virtual void do_matmul(const Matmul& op) = 0;
  virtual void do_matmul_dx(const MatmulDx& op) = 0;
  virtual void do_matmul_dw(const MatmulDw& op) = 0;
  virtual void do_norm_forward(const NormForward& op) = 0;
  virtual void do_norm_backward(const NormBackward& op) = 0;
  virtual void do_affine_forward(const AffineForward& op) = 0;
  virtual void do_affine_backward(const AffineBackward& op) = 0;
  virtual void do_sum_panels(const SumPanels& op) = 0;
  virtual void do_swiglu_forward(const SwigluForward& op) = 0;
  virtual void do_swiglu_backward(const SwigluBackward& op) = 0;
  virtual void do_gelu_forward(const GeluForward& op) = 0;
  virtual void do_gelu_backward(const GeluBackward& op) = 0;
  virtual void do_hadamard(const Hadamard& op) = 0;
  virtual void do_rope(const Rope& op) = 0;
  virtual void do_dropout(const Dropout& op) = 0;
  virtual void do_embedding_forward(const EmbeddingForward& op) = 0;
  virtual void do_embedding_backward(const EmbeddingBackward& op) = 0;
  virtual void do_scatter_rows(const ScatterRows& op) = 0;
  virtual void do_attention_forward(const AttentionForward& op) = 0;
  virtual void do_attention_backward(const AttentionBackward& op) = 0;
  virtual void do_softmax_loss(const SoftmaxLoss& op) = 0;
  virtual void do_compress(const Compress& op) = 0;
  virtual void do_decompress(const Decompress& op) = 0;
  virtual void do_round(const Round& op) = 0;
  virtual void do_adamw(const Adamw& op) = 0;
  virtual void do_adamw_8bit(const Adamw8bit& op) = 0;
  virtual void do_momentum_step(const MomentumStep& op) = 0;
  virtual void do_factored_moments(const FactoredMoments& op) = 0;
  virtual void do_factored_step(const FactoredStep& op) = 0;
  virtual StepSquares do_adamw_direction(const AdamwDirection& op) = 0;
  virtual StepSquares do_factored_squares(const FactoredStep& step) = 0;
  virtual void do_adamw_directions(std::span<const AdamwDirection> ops, std::span<StepSquares> squares);
  virtual void do_factored_squares(std::span<const FactoredStep> steps, std::span<StepSquares> squares);
  virtual double do_sum_squares(ConstView x) = 0;
  virtual void do_sum_squares(std::span<const ConstView> views, std::span<double> sums);
  // Over the host's memory, one thread; a device has its own.
  virtual double do_sum(ConstView row);
  virtual void do_copy(View to, ConstView from);
  virtual void do_zero(View x);
  virtual void do_scale(View x, double factor);
  virtual void do_add(View to, ConstView from, double factor);
  virtual void do_multiply(View to, ConstView from);

  template <class Op>
  void run(const Op& op, void (Backend::*compute)(const Op&)) {
    const TimedCall call = begin(op);
    (this->*compute)(op);
  }
  template <class Op>
  TimedCall begin(const Op& op);  // backend.cpp: check_operands, trace
  template <class Op>
  void check_operands(const Op& op) const;  // check(), element types
};

}  // namespace elastiform
