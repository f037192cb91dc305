// Rows of the table of tokens and of positions, and their gradients: the rows of a token are added in their order, without atomics.
#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

GPU_KERNEL embedding_forward_kernel(Strided<float> y, Strided<const float> table, Strided<const float> positions,
                                    const std::int32_t* tokens, std::uint32_t period, std::int64_t offset, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    float v[kFour];
    load_four(v, table, tokens[n], c, extent);
    if (positions.data) {
      float p[kFour];
      load_four(p, positions, static_cast<std::uint32_t>(n) % period + offset, c, extent);
#pragma unroll
      for (int i = 0; i < kFour; ++i) v[i] += p[i];
    }
    store_four(y, n, c, extent, v);
  });
}

GPU_KERNEL scatter_rows_kernel(Strided<float> y, Strided<const float> x, const std::int32_t* rows, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    float v[kFour];
    load_four(v, x, n, c, extent);
    store_four(y, rows[n], c, extent, v);
  });
}

constexpr int kWarps = 8;  // each adds every eighth row

/// Adds the rows row_of(0) … row_of(count - 1) of dy to row `target` of a table; a block of 32 x 8 threads covers 128 columns.
template <class RowOf>
GPU_FUNCTION void add_rows(Strided<float> table, std::int64_t target, Strided<const float> dy, std::int64_t count, const Extent& extent,
                           const RowOf& row_of) {
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x) * kFour;
  float sum[kFour] = {};
  if (column < extent.columns)
#pragma unroll 4
    for (std::int64_t i = threadIdx.y; i < count; i += kWarps) {
      float v[kFour];
      load_four(v, dy, row_of(i), column, extent);
#pragma unroll
      for (int j = 0; j < kFour; ++j) sum[j] += v[j];
    }
  SHARED(float, of_warps, [kFour][kWarps][kWarp]);
  for (int j = 0; j < kFour; ++j) of_warps[j][threadIdx.y][threadIdx.x] = sum[j];
  __syncthreads();
  if (threadIdx.y != 0 || column >= extent.columns) return;
  const int warps = count < kWarps ? static_cast<int>(count) : kWarps;
  for (int w = 1; w < warps; ++w)
    for (int j = 0; j < kFour; ++j) sum[j] += of_warps[j][w][threadIdx.x];
  float before[kFour];
  load_four(before, table, target, column, extent);
#pragma unroll
  for (int j = 0; j < kFour; ++j) sum[j] += before[j];
  store_four(table, target, column, extent, sum);
}

GPU_KERNEL token_gradient_kernel(Strided<float> dtable, Strided<const float> dy, TokenOrder tokens, Extent extent) {
  const std::int64_t token = blockIdx.y + static_cast<std::int64_t>(blockIdx.z) * gridDim.y;
  if (token >= tokens.count) return;  // the whole block
  const std::int32_t* rows = tokens.order + tokens.begins[token];
  add_rows(dtable, tokens.distinct[token], dy, tokens.begins[token + 1] - tokens.begins[token], extent,
           [&](std::int64_t i) { return static_cast<std::int64_t>(rows[i]); });
}

/// Row p of dpositions receives the rows p, p + period, … of dy.
GPU_KERNEL position_gradient_kernel(Strided<float> dpositions, Strided<const float> dy, std::int64_t period, Extent extent) {
  const std::int64_t position = blockIdx.y + static_cast<std::int64_t>(blockIdx.z) * gridDim.y;
  if (position >= period || position >= extent.rows) return;  // the whole block
  add_rows(dpositions, position, dy, (extent.rows - position + period - 1) / period, extent,
           [&](std::int64_t i) { return position + i * period; });
}

/// Blocks of 128 columns for `rows` rows, which may be more than a grid's y.
Launch a_block_a_row(const char* name, std::int64_t rows, std::int64_t columns, Stream stream) {
  const std::int64_t y = std::min(rows, kLargestGridY), across = kWarp * kFour;
  return {.name = name,
          .grid = {static_cast<unsigned int>((columns + across - 1) / across), static_cast<unsigned int>(y),
                   static_cast<unsigned int>((rows + y - 1) / y)},
          .block = {kWarp, kWarps},
          .stream = stream};
}

}  // namespace

void embedding_forward(Stream stream, const EmbeddingForward& op, const std::int32_t* tokens) {
  const Extent extent{op.y.rows, op.y.columns, all_aligned(op.y, op.table, op.positions)};
  launch(over_groups(op.kName, extent.rows, extent.columns, stream), embedding_forward_kernel, strided<float>(op.y),
         strided<float>(op.table), strided<float>(op.positions), tokens, static_cast<std::uint32_t>(op.period), op.offset, extent);
}

void scatter_rows(Stream stream, const ScatterRows& op, const std::int32_t* rows) {
  const Extent extent{op.x.rows, op.x.columns, all_aligned(op.y, op.x)};
  launch(over_groups(op.kName, extent.rows, extent.columns, stream), scatter_rows_kernel, strided<float>(op.y), strided<float>(op.x), rows,
         extent);
}

void embedding_backward(Stream stream, const EmbeddingBackward& op, const TokenOrder& order) {
  const Extent extent{op.dy.rows, op.dy.columns, all_aligned(op.dtable, op.dpositions, op.dy)};
  launch(a_block_a_row(op.kName, order.count, extent.columns, stream), token_gradient_kernel, strided<float>(op.dtable),
         strided<float>(op.dy), order, extent);
  if (op.dpositions.empty()) return;
  launch(a_block_a_row("embedding_backward (positions)", std::min(op.period, extent.rows), extent.columns, stream),
         position_gradient_kernel, strided<float>(op.dpositions), strided<float>(op.dy), op.period, extent);
}

}  // namespace elastiform::ELASTIFORM_GPU
