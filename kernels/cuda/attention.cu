// The operations of kernels/ops/attention.hpp: which way each goes, and what backward needs first.
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/attention_kernels.hpp"
#include "kernels/cuda/kernels.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

constexpr int kRowsOfBlock = 8;

/// A warp a row of a head. delta[head][row] = Σ dout ∘ out, with dout as products take it: then Σ_keys p · (dout · v - delta) vanishes but
/// for the rounding of out.
GPU_KERNEL __launch_bounds__(32 * kRowsOfBlock, 2) attention_delta_kernel(AttentionSizes s, Source dout, Source out, float* delta) {
  const int row = static_cast<int>(blockIdx.x) * kRowsOfBlock + static_cast<int>(threadIdx.y), head = static_cast<int>(blockIdx.y);
  if (row >= dout.rows) return;  // the whole warp
  float sum = 0;
  for (int c = static_cast<int>(threadIdx.x); c < s.head_dim; c += 32) {
    const int column = head * s.head_dim + c;
    const float upstream = operand(load_element(dout.data, row * dout.ld + column, dout.dtype), s.rounds);
    sum = fmaf(upstream, load_element(out.data, row * out.ld + column, out.dtype), sum);
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(kFullMask, sum, distance);
  if (threadIdx.x == 0) delta[static_cast<std::int64_t>(head) * dout.rows + row] = sum;
}

bool is_empty(const AttentionShape& s) { return s.batch == 0; }

}  // namespace

void attention_forward(Stream stream, const AttentionForward& op, Precision precision) {
  if (is_empty(op.shape)) return;
  if (on_tensor_cores(op.shape, precision)) attention_forward_on_tensor_cores(stream, op);
  else attention_forward_f32(stream, op, precision);
}

std::int64_t attention_backward_scratch_bytes(const AttentionBackward& op) {
  return op.shape.heads * op.dout.rows * static_cast<std::int64_t>(sizeof(float));
}

void attention_backward(Stream stream, const AttentionBackward& op, Precision precision, std::byte* scratch) {
  if (is_empty(op.shape)) return;
  float* delta = reinterpret_cast<float*>(scratch);
  const unsigned int blocks = static_cast<unsigned int>((op.dout.rows + kRowsOfBlock - 1) / kRowsOfBlock);
  launch({"attention_delta", {blocks, static_cast<unsigned int>(op.shape.heads)}, {32, kRowsOfBlock}, 0, stream}, attention_delta_kernel,
         sizes_of(op.shape, precision), source_of(op.dout), source_of(op.out), delta);
  if (on_tensor_cores(op.shape, precision)) attention_backward_on_tensor_cores(stream, op, delta);
  else attention_backward_f32(stream, op, precision, delta);
}

}  // namespace elastiform::ELASTIFORM_GPU
