#pragma once

#include <cstdint>

#include "kernels/cuda/launch.hpp"
#include "kernels/ops/affine.hpp"
#include "kernels/ops/attention.hpp"
#include "kernels/ops/compression.hpp"
#include "kernels/ops/dropout.hpp"
#include "kernels/ops/elementwise.hpp"
#include "kernels/ops/loss.hpp"
#include "kernels/ops/matmul.hpp"
#include "kernels/ops/norm.hpp"
#include "kernels/ops/optimizer.hpp"
#include "kernels/ops/rounding.hpp"
#include "kernels/precision.hpp"

// Every kernel of the CUDA backend behind a function of the host that starts it: what kernels/ops describes, on views of device memory.
// Sizes and leading dimensions are run-time arguments, so one compiled kernel serves every subnet. Views are float32, and those that an
// operation's kOperands names may be bfloat16 or float16. Results depend neither on the order of blocks and threads nor on leading
// dimensions. All return when the work is in the stream. Scratch is device memory of at least `…_scratch_bytes(op)`, 16-byte aligned.
namespace elastiform::ELASTIFORM_GPU {

// matmul.cu (gemm_f32.cu, gemm_tensor_cores*.cu). w is float32, or bfloat16 (a shadow) where `precision` is bf16: then operands are rounded
// to bfloat16 (where one is float16, both to float16) and tensor cores multiply; sums are float32. dw is summed in parts where it has few
// tiles and many tokens, as its sizes say; without scratch (nullptr) in one part, whose blocks occupy a GPU badly.
void matmul(Stream stream, const Matmul& op, Precision precision);
void matmul_dx(Stream stream, const MatmulDx& op, Precision precision);
std::int64_t matmul_dw_scratch_bytes(const MatmulDw& op);
void matmul_dw(Stream stream, const MatmulDw& op, Precision precision, std::byte* scratch = nullptr);
void bias_gradient(Stream stream, const MatmulDw& op);  // dbias alone

// attention.cu (attention_forward_*.cu, attention_backward_*.cu): flash attention. In f32 any head_dim; in bf16 every operand is rounded to
// bfloat16, also one that is stored in float16, and tensor cores multiply for 32, 64 and 128.
void attention_forward(Stream stream, const AttentionForward& op, Precision precision);
std::int64_t attention_backward_scratch_bytes(const AttentionBackward& op);
void attention_backward(Stream stream, const AttentionBackward& op, Precision precision, std::byte* scratch);

// norm.cu
void norm_forward(Stream stream, const NormForward& op);
std::int64_t norm_backward_scratch_bytes(const NormBackward& op);
void norm_backward(Stream stream, const NormBackward& op, std::byte* scratch);
void sum_panels(Stream stream, const SumPanels& op);

// affine.cu
void affine_forward(Stream stream, const AffineForward& op);
void affine_backward(Stream stream, const AffineBackward& op);

// elementwise.cu
void swiglu_forward(Stream stream, const SwigluForward& op);
void swiglu_backward(Stream stream, const SwigluBackward& op);
void gelu_forward(Stream stream, const GeluForward& op);
void gelu_backward(Stream stream, const GeluBackward& op);
void hadamard(Stream stream, const Hadamard& op);
void rope(Stream stream, const Rope& op);
void zero(Stream stream, View x);
void scale(Stream stream, View x, double factor);
void add(Stream stream, View to, ConstView from, double factor);  // to += factor · from, float32
void multiply(Stream stream, View to, ConstView from);            // to *= from, float32
void copy(Stream stream, View to, ConstView from);                // same shape; converts between element types
void round_to_bf16(Stream stream, const float* from, BFloat16* to, std::int64_t count);

// dropout.cu
void dropout(Stream stream, const Dropout& op);

// embedding.cu. tokens, rows: those of op, in device memory.
void embedding_forward(Stream stream, const EmbeddingForward& op, const std::int32_t* tokens);
void scatter_rows(Stream stream, const ScatterRows& op, const std::int32_t* rows);
/// Where each distinct token of a batch stands, made on the host: rows of `order` from begins[i] to begins[i+1] are those of distinct[i],
/// ascending. It makes the sum over a token's rows one loop in a fixed order, without atomics.
struct TokenOrder {
  const std::int32_t* distinct = nullptr;
  const std::int32_t* begins = nullptr;
  const std::int32_t* order = nullptr;
  std::int64_t count = 0;  // of distinct tokens
};
void embedding_backward(Stream stream, const EmbeddingBackward& op, const TokenOrder& order);

// compression.cu
void compress(Stream stream, const Compress& op);
void decompress(Stream stream, const Decompress& op);

// rounding.cu
void round(Stream stream, const Round& op);

// loss.cu. targets: those of op, in device memory.
void softmax_loss(Stream stream, const SoftmaxLoss& op, const std::int32_t* targets);

// optimizer.cu, reduce.cu: many rectangles of matrices in one launch, cut into tiles of at most kTileElements elements; a block a tile.
constexpr std::int64_t kTileElements = 4096;

/// A rectangle of float32, and where its tiles begin in the list that it is part of.
struct Rectangle {
  float* data = nullptr;
  std::int64_t rows = 0, columns = 0, ld = 0;
  std::int64_t first_tile = 0;
  bool aligned = false;  // groups of four columns are, in every operand
};
/// The same for one step of kernels/ops/optimizer.hpp on `weight`. gradient nullptr: zero. shadow, with weight's leading dimension, receives
/// the weight in bfloat16; nullptr: none.
struct AdamwRectangle {
  Rectangle weight;
  float *m = nullptr, *v = nullptr;
  const float* gradient = nullptr;
  BFloat16* shadow = nullptr;
  std::int64_t m_ld = 0, v_ld = 0, gradient_ld = 0;
  float shrink = 1, step = 0, root_correction = 1;  // 1 - rate·decay, rate / c1, 1 / sqrt(c2)
  float beta1 = 0, beta2 = 0, rest1 = 1, rest2 = 1, eps = 0, gradient_scale = 1;
  float* direction = nullptr;       // of AdamwDirection: its gradient
  float decay = 0, correction = 1;  // likewise: decay, 1 / c1
};
struct MomentumRectangle {
  Rectangle weight;
  float* m = nullptr;
  const float* gradient = nullptr;
  BFloat16* shadow = nullptr;
  std::int64_t m_ld = 0, gradient_ld = 0;
  float shrink = 1, rate = 0, keep = 0, take = 1, direction_moment = 0, direction_gradient = 1, coupled_decay = 0, gradient_scale = 1;
  bool sign = false;
};
struct FactoredRectangle {
  Rectangle weight;
  const float *row = nullptr, *column = nullptr, *gradient = nullptr;
  BFloat16* shadow = nullptr;
  std::int64_t gradient_ld = 0;
  float shrink = 1, rate = 0, mean_row = 1, gradient_scale = 1;
};
/// Its tiles are its blocks of codes.
struct CodedRectangle {
  AdamwRectangle step;  // without m and v
  std::uint8_t *m = nullptr, *v = nullptr;
  float *m_scale = nullptr, *v_scale = nullptr;
  std::int64_t m_ld = 0, v_ld = 0;
  std::int64_t block_rows = 1, block_columns = 1, across = 1;  // CodeBlocks
};
/// Each as number `first_tile` and following of a list's tiles; its own number of tiles.
Rectangle rectangle_of(ConstView view, std::int64_t first_tile);
AdamwRectangle rectangle_of(const Adamw& op, BFloat16* shadow, std::int64_t first_tile);
AdamwRectangle rectangle_of(const AdamwDirection& op, BFloat16* shadow, std::int64_t first_tile);
MomentumRectangle rectangle_of(const MomentumStep& op, BFloat16* shadow, std::int64_t first_tile);
FactoredRectangle rectangle_of(const FactoredStep& op, BFloat16* shadow, std::int64_t first_tile);
CodedRectangle rectangle_of(const Adamw8bit& op, BFloat16* shadow, std::int64_t first_tile);
std::int64_t tiles_of(ConstView view);
template <class Op>
std::int64_t tiles_of(const Op& op) {
  return tiles_of(ConstView(op.weight));
}
inline std::int64_t tiles_of(const Adamw8bit& op) { return CodeBlocks(op.weight.rows, op.weight.columns).count(); }

// Lists are in device memory; `tiles` is the sum over their rectangles.
void run(Stream stream, const AdamwRectangle* list, std::int64_t count, std::int64_t tiles);
void run(Stream stream, const MomentumRectangle* list, std::int64_t count, std::int64_t tiles);
void run(Stream stream, const FactoredRectangle* list, std::int64_t count, std::int64_t tiles);
void run(Stream stream, const CodedRectangle* list, std::int64_t count, std::int64_t tiles);  // optimizer_8bit.cu
void zero(Stream stream, const Rectangle* list, std::int64_t count, std::int64_t tiles);
/// sums[i] = Σ x² of list[i] in double: of each tile, then over tiles, in a fixed order.
std::int64_t sum_squares_scratch_bytes(std::int64_t tiles);
void sum_squares(Stream stream, const Rectangle* list, std::int64_t count, std::int64_t tiles, double* sums, std::byte* scratch);
/// squares[i] of list[i], with scratch of as many doubles as two sums need. AdamW's moments move, and its direction is written.
void step_squares(Stream stream, const AdamwRectangle* list, std::int64_t count, std::int64_t tiles, double* squares, std::byte* scratch);
void step_squares(Stream stream, const FactoredRectangle* list, std::int64_t count, std::int64_t tiles, double* squares,
                  std::byte* scratch);
void factored_moments(Stream stream, const FactoredMoments& op);
/// sum[0] = Σ x of one row in double.
void row_sum(Stream stream, ConstView x, double* sum);

}  // namespace elastiform::ELASTIFORM_GPU
