#pragma once

// What the attention kernels have in common.
#include <cstdint>

#include "kernels/cuda/elements.hpp"
#include "kernels/ops/attention.hpp"
#include "kernels/precision.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// AttentionShape in the sizes of a kernel. Blocks are numbered [batch][head or group].
struct AttentionSizes {
  int batch = 0, query_tokens = 0, key_tokens = 0, heads = 0, groups = 0, head_dim = 0;
  float scale = 0;
  bool rounds = false;  // operands of products to bfloat16
  bool causal = true;
};
inline AttentionSizes sizes_of(const AttentionShape& s, Precision precision) {
  return {size_of_matrix(s.batch),     size_of_matrix(s.query_tokens), size_of_matrix(s.key_tokens),
          size_of_matrix(s.heads),     size_of_matrix(s.groups),       size_of_matrix(s.head_dim),
          static_cast<float>(s.scale), precision == Precision::bf16,   s.causal};
}
/// A positive scale lets the largest product be the largest score.
inline bool on_tensor_cores(const AttentionShape& s, Precision precision) {
  return precision == Precision::bf16 && (s.head_dim == 32 || s.head_dim == 64 || s.head_dim == 128) && s.scale > 0;
}

/// A matrix whose columns are heads.
inline Source heads_of(ConstView x, std::int64_t head_dim) {
  Source s = source_of(x);
  s.vectors = s.vectors && head_dim * bytes_of(x.dtype) % 16 == 0;
  return s;
}
inline Target heads_of(View x, std::int64_t head_dim) {
  Target t = target_of(x);
  t.vectors = t.vectors && head_dim * bytes_of(x.dtype) % 16 == 0;
  return t;
}

/// What backward reads. delta[heads, rows]: Σ over a head's columns of dout ∘ out.
struct AttentionBackwardInputs {
  Source q, k, v, dout;
  const float* lse = nullptr;
  const float* delta = nullptr;
  std::int64_t lse_ld = 0;
};
inline AttentionBackwardInputs inputs_of(const AttentionBackward& op, const float* delta) {
  const std::int64_t D = op.shape.head_dim;
  return {heads_of(op.q, D), heads_of(op.k, D), heads_of(op.v, D), heads_of(op.dout, D), op.lse.row<float>(0), delta, op.lse.ld};
}

/// A factor as products take it.
GPU_FUNCTION float operand(float x, bool rounds) { return rounds ? to_float(from_float<BFloat16>(x)) : x; }

/// The rows of one sequence and the columns of one head.
GPU_FUNCTION Source part_of(const Source& s, int batch, int tokens, int head, int head_dim) {
  const std::int64_t at = static_cast<std::int64_t>(batch) * tokens * s.ld + static_cast<std::int64_t>(head) * head_dim;
  const int bytes = s.dtype == DType::float32 ? 4 : 2;
  return {static_cast<const unsigned char*>(s.data) + at * bytes, s.ld, tokens, head_dim, s.dtype, s.vectors};
}
GPU_FUNCTION Target part_of(const Target& t, int batch, int tokens, int head, int head_dim) {
  const std::int64_t at = static_cast<std::int64_t>(batch) * tokens * t.ld + static_cast<std::int64_t>(head) * head_dim;
  const int bytes = t.dtype == DType::float32 ? 4 : 2;
  return {static_cast<unsigned char*>(t.data) + at * bytes, t.ld, t.dtype, t.vectors};
}

}  // namespace elastiform::ELASTIFORM_GPU
