// RMSNorm and LayerNorm, and sums over rows. A warp a row: its sums need no barrier and do not depend on the size of the block.
#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

constexpr int kRowsOfBlock = 4;
constexpr int kWarpColumns = kWarp * kFour;  // that a warp handles at once
constexpr int kKept = 8;  // of these steps stay in registers: 1024 columns; what lies beyond is read again from the caches

/// The groups of a row that a lane handles: column, then index among the kept ones. kept(column, k), and beyond them again(column).
template <class KeptBody, class AgainBody>
GPU_FUNCTION void for_each_lane_group(std::int64_t columns, const KeptBody& kept, const AgainBody& again) {
  const int lane = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const std::int64_t column = k * kWarpColumns + lane * kFour;
    if (column < columns) kept(column, k);
  }
  for (std::int64_t column = kKept * kWarpColumns + lane * kFour; column < columns; column += kWarpColumns) again(column);
}

/// The lane's part of Σ (x - mean)², or of Σ x where `squared` is false; nothing beyond the last column.
GPU_FUNCTION void add_group(float& sum, const float (&x)[kFour], std::int64_t column, std::int64_t columns, float mean, bool squared) {
  float term[kFour];
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    const float centred = column + i < columns ? x[i] - mean : 0.0f;
    term[i] = squared ? centred * centred : centred;
  }
  sum += (term[0] + term[1]) + (term[2] + term[3]);
}

struct NormVectors {
  Strided<const float> gain, bias;
  float *rstd = nullptr, *mean = nullptr;
};

template <class T, Norm kKind>
GPU_KERNEL norm_forward_kernel(Strided<T> y, Strided<const float> x, NormVectors vectors, float eps, Extent extent) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (n >= extent.rows) return;  // the whole warp
  const float C = static_cast<float>(extent.columns);
  float row[kKept][kFour];
  const auto load = [&](std::int64_t c, int k) { load_four(row[k], x, n, c, extent); };
  for_each_lane_group(extent.columns, load, [](std::int64_t) {});
  const auto sum_of_row = [&](float mean, bool squared) {
    float sum = 0;
    for_each_lane_group(
        extent.columns, [&](std::int64_t c, int k) { add_group(sum, row[k], c, extent.columns, mean, squared); },
        [&](std::int64_t c) {
          float v[kFour];
          load_four(v, x, n, c, extent);
          add_group(sum, v, c, extent.columns, mean, squared);
        });
    return warp_sum(sum);
  };
  const float mean = kKind == Norm::layer ? sum_of_row(0.0f, false) / C : 0.0f;
  // Two passes: E[x²] - E[x]² would cancel.
  const float rstd = 1.0f / sqrtf(sum_of_row(mean, true) / C + eps);
  const auto normalize = [&](std::int64_t c, const float(&v)[kFour]) {
    float gain[kFour], bias[kFour] = {}, result[kFour];
    load_four(gain, vectors.gain, 0, c, extent);
    if (vectors.bias.data) load_four(bias, vectors.bias, 0, c, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) result[i] = fmaf((v[i] - mean) * rstd, gain[i], bias[i]);
    store_four(y, n, c, extent, result);
  };
  for_each_lane_group(
      extent.columns, [&](std::int64_t c, int k) { normalize(c, row[k]); },
      [&](std::int64_t c) {
        float v[kFour];
        load_four(v, x, n, c, extent);
        normalize(c, v);
      });
  if (threadIdx.x != 0) return;
  if (vectors.rstd) vectors.rstd[n] = rstd;
  if (kKind == Norm::layer && vectors.mean) vectors.mean[n] = mean;
}

struct NormGradient {
  Strided<float> dx;
  Strided<const float> dy, residual, x, gain;
  const float *rstd = nullptr, *mean = nullptr;
};

/// dx = residual + rstd · (g - mean(g) - x̂ · mean(g ∘ x̂)) with g = dy ∘ gain, x̂ = (x - mean) · rstd; rms has no mean(g).
template <Norm kKind>
GPU_KERNEL norm_backward_kernel(NormGradient op, Extent extent) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (n >= extent.rows) return;  // the whole warp
  const float C = static_cast<float>(extent.columns), rstd = op.rstd[n], mean = kKind == Norm::layer ? op.mean[n] : 0.0f;
  float kept_g[kKept][kFour], kept_normal[kKept][kFour], sum = 0, dot = 0;
  const auto load = [&](std::int64_t c, float(&g)[kFour], float(&normal)[kFour]) {
    float gain[kFour];
    load_four(g, op.dy, n, c, extent);
    load_four(normal, op.x, n, c, extent);
    load_four(gain, op.gain, 0, c, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      g[i] *= gain[i];  // 0 beyond the last column
      normal[i] = (normal[i] - mean) * rstd;
    }
  };
  const auto add = [&](const float(&g)[kFour], const float(&normal)[kFour]) {
    sum += (g[0] + g[1]) + (g[2] + g[3]);
    dot += (g[0] * normal[0] + g[1] * normal[1]) + (g[2] * normal[2] + g[3] * normal[3]);
  };
  for_each_lane_group(
      extent.columns,
      [&](std::int64_t c, int k) {
        load(c, kept_g[k], kept_normal[k]);
        add(kept_g[k], kept_normal[k]);
      },
      [&](std::int64_t c) {
        float g[kFour], normal[kFour];
        load(c, g, normal);
        add(g, normal);
      });
  const float mean_dot = warp_sum(dot) / C, mean_sum = kKind == Norm::layer ? warp_sum(sum) / C : 0.0f;
  const auto write = [&](std::int64_t c, const float(&g)[kFour], const float(&normal)[kFour]) {
    float result[kFour] = {};
    if (op.residual.data) load_four(result, op.residual, n, c, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) result[i] += rstd * fmaf(-normal[i], mean_dot, g[i] - mean_sum);
    store_four(op.dx, n, c, extent, result);
  };
  for_each_lane_group(
      extent.columns, [&](std::int64_t c, int k) { write(c, kept_g[k], kept_normal[k]); },
      [&](std::int64_t c) {
        float g[kFour], normal[kFour];
        load(c, g, normal);
        write(c, g, normal);
      });
}

constexpr int kSumWarps = 8;  // of a block that sums over rows: each takes every eighth of them

/// Sums of a chunk of kRowChunk rows: of dy ∘ x̂ into row blockIdx.y of dgain, of dy into that of dbias. A block covers 128 columns.
template <Norm kKind>
GPU_KERNEL norm_gain_kernel(NormGradient op, Strided<float> dgain, Strided<float> dbias, Extent extent) {
  const std::int64_t block_column = static_cast<std::int64_t>(blockIdx.x) * kWarpColumns, column = block_column + threadIdx.x * kFour;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * kRowChunk, next = first + kRowChunk,
                     end = next < extent.rows ? next : extent.rows;
  float of_gain[kFour] = {}, of_bias[kFour] = {};
  if (column < extent.columns)
#pragma unroll 4
    for (std::int64_t n = first + threadIdx.y; n < end; n += kSumWarps) {
      const float rstd = op.rstd[n], mean = kKind == Norm::layer ? op.mean[n] : 0.0f;
      float dy[kFour], x[kFour];
      load_four(dy, op.dy, n, column, extent);
      load_four(x, op.x, n, column, extent);
#pragma unroll
      for (int i = 0; i < kFour; ++i) {
        of_gain[i] = fmaf(dy[i], (x[i] - mean) * rstd, of_gain[i]);
        of_bias[i] += dy[i];
      }
    }
  SHARED(float, of_warps, [2][kSumWarps][kWarpColumns]);
  for (int i = 0; i < kFour; ++i) {
    of_warps[0][threadIdx.y][threadIdx.x * kFour + i] = of_gain[i];
    of_warps[1][threadIdx.y][threadIdx.x * kFour + i] = of_bias[i];
  }
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.y * kWarp + threadIdx.x), which = thread / kWarpColumns, at = thread % kWarpColumns;
  const Strided<float> to = which == 0 ? dgain : dbias;
  if (!to.data || block_column + at >= extent.columns) return;
  float total = of_warps[which][0][at];
  for (int w = 1; w < kSumWarps; ++w) total += of_warps[which][w][at];
  to.data[blockIdx.y * to.ld + block_column + at] = total;
}
static_assert(kSumWarps * kWarp == 2 * kWarpColumns);  // a thread for each sum that it ends with

struct RowSum {
  float* sum = nullptr;  // nullptr: nothing to do
  Strided<const float> rows;
};

/// sum[c] = Σ_p rows[p][c], after what stands there if it accumulates; blockIdx.y chooses the first or the second.
GPU_KERNEL sum_rows_kernel(RowSum first, RowSum second, std::int64_t rows, std::int64_t columns, bool accumulate) {
  const RowSum op = blockIdx.y == 0 ? first : second;
  if (!op.sum) return;  // the whole block
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  float sum = 0;
  if (column < columns)
#pragma unroll 4
    for (std::int64_t p = threadIdx.y; p < rows; p += kSumWarps) sum += op.rows.data[p * op.rows.ld + column];
  SHARED(float, of_warps, [kSumWarps][kWarp]);
  of_warps[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (int w = 1; w < kSumWarps; ++w) sum += of_warps[w][threadIdx.x];
  op.sum[column] = accumulate ? op.sum[column] + sum : sum;
}

void sum_rows(Stream stream, const RowSum& first, const RowSum& second, std::int64_t rows, std::int64_t columns, bool accumulate) {
  const Launch l{.name = "sum_panels",
                 .grid = {static_cast<unsigned int>((columns + kWarp - 1) / kWarp), second.sum ? 2u : 1u},
                 .block = {kWarp, kSumWarps},
                 .stream = stream};
  launch(l, sum_rows_kernel, first, second, rows, columns, accumulate);
}

constexpr int kAllThreads = 256;

/// All elements into one number; one block.
GPU_KERNEL sum_all_kernel(float* sum, Strided<const float> x, std::int64_t rows, std::int64_t columns, bool accumulate) {
  float total[1] = {0};
  for (std::int64_t p = 0; p < rows; ++p)
    for (std::int64_t c = threadIdx.x; c < columns; c += kAllThreads) total[0] += x.data[p * x.ld + c];
  block_sum(total);
  if (threadIdx.x == 0) sum[0] = accumulate ? sum[0] + total[0] : total[0];
}

Launch a_warp_a_row(const char* name, std::int64_t rows, Stream stream) {
  return {.name = name,
          .grid = {static_cast<unsigned int>((rows + kRowsOfBlock - 1) / kRowsOfBlock)},
          .block = {kWarp, kRowsOfBlock},
          .stream = stream};
}

float* vector_or_null(View view) { return view.empty() ? nullptr : view.row<float>(0); }

std::int64_t row_chunks(const NormBackward& op) { return (op.x.rows + kRowChunk - 1) / kRowChunk; }

}  // namespace

void norm_forward(Stream stream, const NormForward& op) {
  const Extent extent{op.x.rows, op.x.columns, all_aligned(op.y, op.x, op.gain, op.bias)};
  const NormVectors vectors{strided<float>(op.gain), strided<float>(op.bias), vector_or_null(op.rstd), vector_or_null(op.mean)};
  dispatch_storage(op.y.dtype, [&]<class T>() {
    const auto kernel = op.kind == Norm::layer ? norm_forward_kernel<T, Norm::layer> : norm_forward_kernel<T, Norm::rms>;
    launch(a_warp_a_row(op.kName, extent.rows, stream), kernel, strided<T>(op.y), strided<float>(op.x), vectors, static_cast<float>(op.eps),
           extent);
  });
}

std::int64_t norm_backward_scratch_bytes(const NormBackward& op) {
  if (op.dgain.empty() && op.dbias.empty()) return 0;
  return row_chunks(op) == 1 ? 0 : 2 * row_chunks(op) * op.x.columns * bytes_of(DType::float32);
}

void norm_backward(Stream stream, const NormBackward& op, std::byte* scratch) {
  const Extent extent{op.x.rows, op.x.columns, all_aligned(op.dx, op.dy, op.residual, op.x, op.gain)};
  const bool layer = op.kind == Norm::layer;
  const NormGradient gradient{strided<float>(op.dx),
                              strided<float>(op.dy),
                              strided<float>(op.residual),
                              strided<float>(op.x),
                              strided<float>(op.gain),
                              op.rstd.row<float>(0),
                              layer ? op.mean.row<float>(0) : nullptr};
  if (!op.dgain.empty() || !op.dbias.empty()) {  // first: dx may be the memory of dy
    const std::int64_t chunks = row_chunks(op), C = extent.columns;
    Strided<float> gains = strided<float>(op.dgain), biases = strided<float>(op.dbias);
    if (chunks > 1) {
      auto* partials = reinterpret_cast<float*>(scratch);
      if (gains.data) gains = {partials, C};
      if (biases.data) biases = {partials + chunks * C, C};
    }
    const Launch l{.name = "norm_backward (gain)",
                   .grid = {static_cast<unsigned int>((C + kWarpColumns - 1) / kWarpColumns), static_cast<unsigned int>(chunks)},
                   .block = {kWarp, kSumWarps},
                   .stream = stream};
    launch(l, layer ? norm_gain_kernel<Norm::layer> : norm_gain_kernel<Norm::rms>, gradient, gains, biases, extent);
    if (chunks > 1)
      sum_rows(stream, {vector_or_null(op.dgain), {gains.data, gains.ld}}, {vector_or_null(op.dbias), {biases.data, biases.ld}}, chunks, C,
               false);
  }
  launch(a_warp_a_row(op.kName, extent.rows, stream), layer ? norm_backward_kernel<Norm::layer> : norm_backward_kernel<Norm::rms>, gradient,
         extent);
}

void sum_panels(Stream stream, const SumPanels& op) {
  if (op.sum.columns < op.partials.columns)
    return launch({.name = "sum_panels (all)", .grid = {}, .block = {kAllThreads}, .stream = stream}, sum_all_kernel, op.sum.row<float>(0),
                  strided<float>(op.partials), op.partials.rows, op.partials.columns, op.accumulate);
  sum_rows(stream, {op.sum.row<float>(0), strided<float>(op.partials)}, {}, op.partials.rows, op.partials.columns, op.accumulate);
}

}  // namespace elastiform::ELASTIFORM_GPU
