// The operations of kernels/ops/matmul.hpp: what each multiplies and where the result goes.
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
void multiply(Stream stream, const Output& c, ConstView a, bool a_along_k, ConstView b, bool b_along_k, Precision precision) {
  const Product product{.c = c,
                        .a = source_of(a),
                        .b = source_of(b),
                        .M = size_of_matrix(a_along_k ? a.rows : a.columns),
                        .N = size_of_matrix(b_along_k ? b.rows : b.columns),
                        .K = size_of_matrix(a_along_k ? a.columns : a.rows),
                        .a_along_k = a_along_k,
                        .b_along_k = b_along_k};
  if (product.M == 0 || product.N == 0) return;
  if (precision == Precision::f32) multiply_f32(stream, product);
  else if (a.dtype == DType::float16 || b.dtype == DType::float16) multiply_float16_on_tensor_cores(stream, product);
  else multiply_on_tensor_cores(stream, product);
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
  multiply(stream, output_of(op.y, op.bias, op.add, op.scale), op.x, true, op.w, op.transposed, precision);
}

void matmul_dx(Stream stream, const MatmulDx& op, Precision precision) {
  multiply(stream, output_of(op.dx, {}, op.add, op.scale), op.dy, true, op.w, !op.transposed, precision);
}

void matmul_dw(Stream stream, const MatmulDw& op, Precision precision) {
  const ConstView left = op.transposed ? op.dy : op.x, right = op.transposed ? op.x : op.dy;
  multiply(stream, output_of(op.dw, {}, op.accumulate ? ConstView(op.dw) : ConstView{}, op.scale), left, false, right, false, precision);
  if (op.dbias.empty() || op.dbias.columns == 0) return;
  const unsigned int blocks = static_cast<unsigned int>((op.dbias.columns + kSumColumns - 1) / kSumColumns);
  launch({"column_sums", {blocks}, {kSumColumns, kSumThreads}, 0, stream}, column_sums_kernel, op.dbias.row<float>(0), source_of(op.dy),
         static_cast<float>(op.scale), op.accumulate);
}

}  // namespace elastiform::ELASTIFORM_GPU
