// The operations of kernels/ops/matmul.hpp: what each multiplies and where the result goes.
#include <algorithm>

#include "kernels/cuda/gemm.hpp"
#include "kernels/cuda/kernels.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

Output output_of(View c, ConstView bias, ConstView add, double scale) {
  return {.target = target_of(c),
          .bias = bias.empty() ? nullptr : bias.row<float>(0),
          .add = add.empty() ? nullptr : add.row<float>(0),
          .add_ld = add.ld,
          .scale = static_cast<float>(scale),
          .add_vectors = at_vectors(add.data, add.ld, add.dtype)};
}

/// c[M,N] = a · b, with a, b as they are stored.
Product product_of(const Output& c, ConstView a, bool a_along_k, ConstView b, bool b_along_k) {
  const int K = size_of_matrix(a_along_k ? a.columns : a.rows);
  return {.c = c,
          .a = source_of(a),
          .b = source_of(b),
          .M = size_of_matrix(a_along_k ? a.rows : a.columns),
          .N = size_of_matrix(b_along_k ? b.rows : b.columns),
          .K = K,
          .a_along_k = a_along_k,
          .b_along_k = b_along_k,
          .depth = K};
}

void multiply(Stream stream, const Product& p, Precision precision) {
  if (p.M == 0 || p.N == 0) return;
  if (precision == Precision::f32) multiply_f32(stream, p);
  else if (p.a.dtype == DType::float16 || p.b.dtype == DType::float16) multiply_float16_on_tensor_cores(stream, p);
  else multiply_on_tensor_cores(stream, p);
}

/// Weight gradients have few tiles and a great depth, all tokens: in parts they occupy 132 multiprocessors twice.
struct Parts {
  int count, depth;
};
Parts parts_of(std::int64_t M, std::int64_t N, std::int64_t K) {
  constexpr std::int64_t kTile = 64, kEnough = 264, kLeastDepth = 512, kMost = 16;
  const std::int64_t tiles = (M + kTile - 1) / kTile * ((N + kTile - 1) / kTile);
  const std::int64_t count = std::min({kMost, K / kLeastDepth, (kEnough + tiles - 1) / std::max<std::int64_t>(tiles, 1)});
  if (count < 2) return {1, static_cast<int>(K)};
  const std::int64_t depth = ((K + count - 1) / count + kTile - 1) / kTile * kTile;  // whole steps of every kernel
  return {static_cast<int>((K + depth - 1) / depth), static_cast<int>(depth)};
}

constexpr int kPartThreads = 256;

/// c from the sums of its parts, added in their order; a thread takes four neighbours.
GPU_KERNEL __launch_bounds__(kPartThreads, 4) add_parts_kernel(Product p, const float* sums, int parts) {
  const int quads = (p.N + 3) / 4;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kPartThreads + static_cast<std::int64_t>(threadIdx.x);
  const int row = static_cast<int>(i / quads), column = static_cast<int>(i % quads) * 4;
  if (row >= p.M) return;
  float total[4] = {};
  for (int part = 0; part < parts; ++part) {
    const float* from = sums + (static_cast<std::int64_t>(part) * p.M + row) * p.N + column;
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (column + j < p.N) total[j] += from[j];
  }
  store_sums(p, row, column, total);
}

/// The same product in parts, whose sums lie in scratch.
void multiply_in_parts(Stream stream, const Product& p, const Parts& parts, float* scratch, Precision precision) {
  Product in_parts = p;
  in_parts.c = {.target = target_of(view_of(scratch, static_cast<std::int64_t>(parts.count) * p.M, p.N, p.N))};
  in_parts.parts = parts.count;
  in_parts.depth = parts.depth;
  multiply(stream, in_parts, precision);
  const std::int64_t quads = static_cast<std::int64_t>(p.M) * ((p.N + 3) / 4);
  const unsigned int blocks = static_cast<unsigned int>((quads + kPartThreads - 1) / kPartThreads);
  launch({"add_parts", {blocks}, {kPartThreads}, 0, stream}, add_parts_kernel, p, scratch, parts.count);
}

constexpr int kSumColumns = 32, kSumThreads = 16;

/// sum[columns] (accumulate: +)= scale · Σ_rows x. Thread y of a column adds every 16th row, in chunks of 32 of them, and the 16 sums
/// meet in a tree, so the order depends on the number of rows only.
GPU_KERNEL __launch_bounds__(kSumColumns* kSumThreads, 2) column_sums_kernel(float* sum, Source x, float scale, bool accumulate) {
  SHARED(float, partial, [kSumThreads][kSumColumns]);
  const int lane = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int column = static_cast<int>(blockIdx.x) * kSumColumns + lane;
  constexpr int kChunk = 32;
  float total = 0;
  if (column < x.columns)
    for (int first = y; first < x.rows; first += kChunk * kSumThreads) {
      float chunk = 0;
      for (int row = first; row < x.rows && row < first + kChunk * kSumThreads; row += kSumThreads)
        chunk += load_element(x.data, row * x.ld + column, x.dtype);
      total += chunk;
    }
  partial[y][lane] = total;
  for (int half = kSumThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (y < half) partial[y][lane] += partial[y + half][lane];
  }
  if (y == 0 && column < x.columns) sum[column] = fmaf(scale, partial[0][lane], accumulate ? sum[column] : 0);
}

}  // namespace

void matmul(Stream stream, const Matmul& op, Precision precision) {
  multiply(stream, product_of(output_of(op.y, op.bias, op.add, op.scale), op.x, true, op.w, op.transposed), precision);
}

void matmul_dx(Stream stream, const MatmulDx& op, Precision precision) {
  multiply(stream, product_of(output_of(op.dx, {}, op.add, op.scale), op.dy, true, op.w, !op.transposed), precision);
}

std::int64_t matmul_dw_scratch_bytes(const MatmulDw& op) {
  const int parts = parts_of(op.dw.rows, op.dw.columns, op.x.rows).count;
  return parts < 2 ? 0 : parts * op.dw.size() * static_cast<std::int64_t>(sizeof(float));
}

void matmul_dw(Stream stream, const MatmulDw& op, Precision precision, std::byte* scratch) {
  const ConstView left = op.transposed ? op.dy : op.x, right = op.transposed ? op.x : op.dy;
  const ConstView add = op.accumulate ? ConstView(op.dw) : ConstView{};
  const Product p = product_of(output_of(op.dw, {}, add, op.scale), left, false, right, false);
  const Parts parts = parts_of(p.M, p.N, p.K);
  if (parts.count < 2 || !scratch) multiply(stream, p, precision);
  else multiply_in_parts(stream, p, parts, reinterpret_cast<float*>(scratch), precision);
  bias_gradient(stream, op);
}

void bias_gradient(Stream stream, const MatmulDw& op) {
  if (op.dbias.empty() || op.dbias.columns == 0) return;
  const unsigned int blocks = static_cast<unsigned int>((op.dbias.columns + kSumColumns - 1) / kSumColumns);
  launch({"column_sums", {blocks}, {kSumColumns, kSumThreads}, 0, stream}, column_sums_kernel, op.dbias.row<float>(0), source_of(op.dy),
         static_cast<float>(op.scale), op.accumulate);
}

}  // namespace elastiform::ELASTIFORM_GPU
