// Steps of optimizers over all the rectangles of an update in one launch.
#include <cmath>

#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/rectangles.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

/// g of a group; zeros where there is no gradient.
GPU_FUNCTION void load_gradient(float (&g)[kFour], const float* gradient, std::int64_t ld, float scale, std::int64_t row,
                                std::int64_t column, const Extent& extent) {
#pragma unroll
  for (int i = 0; i < kFour; ++i) g[i] = 0;
  if (!gradient) return;
  load_four(g, Strided<const float>{gradient, ld}, row, column, extent);
#pragma unroll
  for (int i = 0; i < kFour; ++i) g[i] *= scale;
}

template <class Step>
GPU_FUNCTION void store_weight(const Step& op, std::int64_t row, std::int64_t column, const float (&weight)[kFour]) {
  const Extent extent = extent_of(op.weight);
  store_four(Strided<float>{op.weight.data, op.weight.ld}, row, column, extent, weight);
  if (op.shadow) store_four(Strided<BFloat16>{op.shadow, op.weight.ld}, row, column, extent, weight);
}

/// Loads a group, moves its moments and stores them.
GPU_FUNCTION void move_moments(const AdamwRectangle& op, std::int64_t row, std::int64_t column, float (&weight)[kFour],
                               float (&first)[kFour], float (&second)[kFour]) {
  const Extent extent = extent_of(op.weight);
  const Strided<float> m{op.m, op.m_ld}, v{op.v, op.v_ld};
  float g[kFour];
  load_four(weight, Strided<const float>{op.weight.data, op.weight.ld}, row, column, extent);
  load_four(first, m, row, column, extent);
  load_four(second, v, row, column, extent);
  load_gradient(g, op.gradient, op.gradient_ld, op.gradient_scale, row, column, extent);
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    first[i] = fmaf(op.rest1, g[i], op.beta1 * first[i]);
    second[i] = fmaf(op.rest2 * g[i], g[i], op.beta2 * second[i]);
  }
  store_four(m, row, column, extent, first);
  store_four(v, row, column, extent, second);
}

GPU_KERNEL adamw_kernel(const AdamwRectangle* list, std::int64_t count) {
  const AdamwRectangle op = list[rectangle_of_block(list, count)];
  for_each_group_of_tile(op.weight, [&](std::int64_t row, std::int64_t column) {
    float weight[kFour], first[kFour], second[kFour];
    move_moments(op, row, column, weight, first, second);
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      const float denominator = fmaf(sqrtf(second[i]), op.root_correction, op.eps);
      weight[i] = op.shrink * weight[i] - op.step * first[i] / denominator;
    }
    store_weight(op, row, column, weight);
  });
}

GPU_FUNCTION void add_square(double& sum, float x) { sum += static_cast<double>(x) * static_cast<double>(x); }

GPU_KERNEL adamw_direction_kernel(const AdamwRectangle* list, std::int64_t count, double* of_tiles) {
  const AdamwRectangle op = list[rectangle_of_block(list, count)];
  double sums[2] = {};
  for_each_group_of_tile(op.weight, [&](std::int64_t row, std::int64_t column) {
    float weight[kFour], first[kFour], second[kFour];
    move_moments(op, row, column, weight, first, second);
    float direction[kFour] = {};
    for (int i = 0; i < kFour && column + i < op.weight.columns; ++i) {
      const float denominator = fmaf(sqrtf(second[i]), op.root_correction, op.eps);
      direction[i] = fmaf(op.decay, weight[i], op.correction * first[i] / denominator);
      add_square(sums[0], weight[i]);
      add_square(sums[1], direction[i]);
    }
    store_four(Strided<float>{op.direction, op.gradient_ld}, row, column, extent_of(op.weight), direction);
  });
  block_sum(sums);
  if (threadIdx.x == 0)
    for (int i = 0; i < 2; ++i) of_tiles[2 * static_cast<std::int64_t>(blockIdx.x) + i] = sums[i];
}

GPU_KERNEL momentum_kernel(const MomentumRectangle* list, std::int64_t count) {
  const MomentumRectangle op = list[rectangle_of_block(list, count)];
  const Extent extent = extent_of(op.weight);
  const Strided<float> moments{op.m, op.m_ld};
  for_each_group_of_tile(op.weight, [&](std::int64_t row, std::int64_t column) {
    float weight[kFour], m[kFour], g[kFour];
    load_four(weight, Strided<const float>{op.weight.data, op.weight.ld}, row, column, extent);
    load_four(m, moments, row, column, extent);
    load_gradient(g, op.gradient, op.gradient_ld, op.gradient_scale, row, column, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      g[i] = fmaf(op.coupled_decay, weight[i], g[i]);
      float direction = fmaf(op.direction_gradient, g[i], op.direction_moment * m[i]);
      if (op.sign) direction = direction > 0 ? 1.0f : direction < 0 ? -1.0f : 0.0f;
      m[i] = fmaf(op.take, g[i], op.keep * m[i]);
      weight[i] = op.shrink * weight[i] - op.rate * direction;
    }
    store_four(moments, row, column, extent, m);
    store_weight(op, row, column, weight);
  });
}

/// u of a group: Adafactor's direction.
GPU_FUNCTION void factored_direction(const FactoredRectangle& op, std::int64_t row, std::int64_t column, float (&direction)[kFour]) {
  load_gradient(direction, op.gradient, op.gradient_ld, op.gradient_scale, row, column, extent_of(op.weight));
  const float of_row = 1.0f / sqrtf(op.row[row] / op.mean_row);
  for (int i = 0; i < kFour && column + i < op.weight.columns; ++i) direction[i] = of_row * direction[i] / sqrtf(op.column[column + i]);
}

GPU_KERNEL factored_kernel(const FactoredRectangle* list, std::int64_t count) {
  const FactoredRectangle op = list[rectangle_of_block(list, count)];
  for_each_group_of_tile(op.weight, [&](std::int64_t row, std::int64_t column) {
    float weight[kFour], direction[kFour];
    load_four(weight, Strided<const float>{op.weight.data, op.weight.ld}, row, column, extent_of(op.weight));
    factored_direction(op, row, column, direction);
#pragma unroll
    for (int i = 0; i < kFour; ++i) weight[i] = op.shrink * weight[i] - op.rate * direction[i];
    store_weight(op, row, column, weight);
  });
}

GPU_KERNEL factored_squares_kernel(const FactoredRectangle* list, std::int64_t count, double* of_tiles) {
  const FactoredRectangle op = list[rectangle_of_block(list, count)];
  double sums[2] = {};
  for_each_group_of_tile(op.weight, [&](std::int64_t row, std::int64_t column) {
    float weight[kFour], direction[kFour];
    load_four(weight, Strided<const float>{op.weight.data, op.weight.ld}, row, column, extent_of(op.weight));
    factored_direction(op, row, column, direction);
    for (int i = 0; i < kFour && column + i < op.weight.columns; ++i) {
      add_square(sums[0], weight[i]);
      add_square(sums[1], direction[i]);
    }
  });
  block_sum(sums);
  if (threadIdx.x == 0)
    for (int i = 0; i < 2; ++i) of_tiles[2 * static_cast<std::int64_t>(blockIdx.x) + i] = sums[i];
}

struct FactoredParts {
  float beta2 = 0, scale = 1, row_part = 0, column_part = 0, eps = 0;  // row_part: (1-β2) / columns; eps: (1-β2)·eps
};

/// A block a row.
GPU_KERNEL factored_rows_kernel(float* row, Strided<const float> gradient, std::int64_t columns, FactoredParts parts) {
  float sum[1] = {};
  for (std::int64_t c = threadIdx.x; c < columns; c += kTileThreads) {
    const float g = parts.scale * gradient.data[static_cast<std::int64_t>(blockIdx.x) * gradient.ld + c];
    sum[0] = fmaf(g, g, sum[0]);
  }
  block_sum(sum);
  if (threadIdx.x == 0) row[blockIdx.x] = fmaf(parts.row_part, sum[0], parts.beta2 * row[blockIdx.x] + parts.eps);
}

constexpr std::int64_t kRowsOfChunk = 128;

/// A thread a column: rows in chunks, so that a sum over many does not lose them.
GPU_KERNEL factored_columns_kernel(float* column, Strided<const float> gradient, std::int64_t rows, std::int64_t columns,
                                   FactoredParts parts) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * kTileThreads + threadIdx.x;
  if (c >= columns) return;
  float total = 0;
  for (std::int64_t first = 0; first < rows; first += kRowsOfChunk) {
    float sum = 0;
    for (std::int64_t n = first; n < rows && n < first + kRowsOfChunk; ++n) {
      const float g = parts.scale * gradient.data[n * gradient.ld + c];
      sum = fmaf(g, g, sum);
    }
    total += sum;
  }
  column[c] = fmaf(parts.column_part, total, parts.beta2 * column[c] + parts.eps);
}

GPU_KERNEL zero_tiles_kernel(const Rectangle* list, std::int64_t count) {
  const Rectangle rectangle = list[rectangle_of_block(list, count)];
  for_each_group_of_tile(rectangle, [&](std::int64_t row, std::int64_t column) {
    const float zeros[kFour] = {};
    store_four(Strided<float>{rectangle.data, rectangle.ld}, row, column, extent_of(rectangle), zeros);
  });
}

bool shadow_aligned(const BFloat16* shadow) { return reinterpret_cast<std::uintptr_t>(shadow) % sizeof(Four<BFloat16>) == 0; }

/// What steps of Adam have in common, however their moments are stored.
template <class Op>
void set_scalars(AdamwRectangle& result, const Op& op, double rate, BFloat16* shadow) {
  result.gradient = op.gradient.empty() ? nullptr : op.gradient.template row<float>(0);
  result.shadow = shadow;
  result.gradient_ld = op.gradient.ld;
  result.shrink = static_cast<float>(1 - rate * op.decay);
  result.step = static_cast<float>(rate / op.correction1);
  result.root_correction = static_cast<float>(1 / std::sqrt(op.correction2));
  result.beta1 = static_cast<float>(op.beta1);
  result.beta2 = static_cast<float>(op.beta2);
  result.rest1 = static_cast<float>(1 - op.beta1);  // in double: 1 - 0.999f is off by 2e-5 of itself
  result.rest2 = static_cast<float>(1 - op.beta2);
  result.eps = static_cast<float>(op.eps);
  result.gradient_scale = static_cast<float>(op.gradient_scale);
}

}  // namespace

std::int64_t tiles_of(ConstView view) {
  const std::int64_t groups = view.rows * ((view.columns + kFour - 1) / kFour);
  return (groups + kTileGroups - 1) / kTileGroups;
}

Rectangle rectangle_of(ConstView view, std::int64_t first_tile) {
  auto* data = const_cast<float*>(view.row<float>(0));  // one type serves lists that are read and lists that are written
  return {data, view.rows, view.columns, view.ld, first_tile, aligned(view)};
}

template <class Op>
AdamwRectangle adamw_rectangle(const Op& op, BFloat16* shadow, std::int64_t first_tile) {
  AdamwRectangle result;
  result.weight = rectangle_of(op.weight, first_tile);
  result.weight.aligned = all_aligned(op.weight, op.m, op.v, op.gradient) && shadow_aligned(shadow);
  result.m = op.m.template row<float>(0);
  result.v = op.v.template row<float>(0);
  result.m_ld = op.m.ld;
  result.v_ld = op.v.ld;
  return result;
}

AdamwRectangle rectangle_of(const Adamw& op, BFloat16* shadow, std::int64_t first_tile) {
  AdamwRectangle result = adamw_rectangle(op, shadow, first_tile);
  set_scalars(result, op, op.rate, shadow);
  return result;
}

AdamwRectangle rectangle_of(const AdamwDirection& op, BFloat16* shadow, std::int64_t first_tile) {
  AdamwRectangle result = adamw_rectangle(op, shadow, first_tile);
  set_scalars(result, op, 0, shadow);
  result.direction = op.gradient.row<float>(0);
  result.decay = static_cast<float>(op.decay);
  result.correction = static_cast<float>(1 / op.correction1);
  return result;
}

MomentumRectangle rectangle_of(const MomentumStep& op, BFloat16* shadow, std::int64_t first_tile) {
  MomentumRectangle result;
  result.weight = rectangle_of(op.weight, first_tile);
  result.weight.aligned = all_aligned(op.weight, op.m, op.gradient) && shadow_aligned(shadow);
  result.m = op.m.row<float>(0);
  result.gradient = op.gradient.empty() ? nullptr : op.gradient.row<float>(0);
  result.shadow = shadow;
  result.m_ld = op.m.ld;
  result.gradient_ld = op.gradient.ld;
  result.shrink = static_cast<float>(1 - op.rate * op.decay);
  result.rate = static_cast<float>(op.rate);
  result.keep = static_cast<float>(op.keep);
  result.take = static_cast<float>(op.take);
  result.direction_moment = static_cast<float>(op.direction_moment);
  result.direction_gradient = static_cast<float>(op.direction_gradient);
  result.coupled_decay = static_cast<float>(op.coupled_decay);
  result.gradient_scale = static_cast<float>(op.gradient_scale);
  result.sign = op.sign;
  return result;
}

FactoredRectangle rectangle_of(const FactoredStep& op, BFloat16* shadow, std::int64_t first_tile) {
  FactoredRectangle result;
  result.weight = rectangle_of(op.weight, first_tile);
  result.weight.aligned = all_aligned(op.weight, op.gradient) && shadow_aligned(shadow);
  result.row = op.row.row<float>(0);
  result.column = op.column.row<float>(0);
  result.gradient = op.gradient.empty() ? nullptr : op.gradient.row<float>(0);
  result.shadow = shadow;
  result.gradient_ld = op.gradient.ld;
  result.shrink = static_cast<float>(1 - op.decay);
  result.rate = static_cast<float>(op.rate);
  result.mean_row = static_cast<float>(op.mean_row);
  result.gradient_scale = static_cast<float>(op.gradient_scale);
  return result;
}

CodedRectangle rectangle_of(const Adamw8bit& op, BFloat16* shadow, std::int64_t first_tile) {
  const CodeBlocks blocks(op.weight.rows, op.weight.columns);
  CodedRectangle result;
  result.step.weight = rectangle_of(op.weight, first_tile);
  set_scalars(result.step, op, op.rate, shadow);
  result.m = op.m.row<std::uint8_t>(0);
  result.v = op.v.row<std::uint8_t>(0);
  result.m_scale = op.m_scale.row<float>(0);
  result.v_scale = op.v_scale.row<float>(0);
  result.m_ld = op.m.ld;
  result.v_ld = op.v.ld;
  result.block_rows = blocks.rows;
  result.block_columns = blocks.columns;
  result.across = blocks.across;
  return result;
}

void run(Stream stream, const AdamwRectangle* list, std::int64_t count, std::int64_t tiles) {
  launch(over_tiles("adamw", tiles, stream), adamw_kernel, list, count);
}

void run(Stream stream, const MomentumRectangle* list, std::int64_t count, std::int64_t tiles) {
  launch(over_tiles("momentum_step", tiles, stream), momentum_kernel, list, count);
}

void run(Stream stream, const FactoredRectangle* list, std::int64_t count, std::int64_t tiles) {
  launch(over_tiles("factored_step", tiles, stream), factored_kernel, list, count);
}

void step_squares(Stream stream, const AdamwRectangle* list, std::int64_t count, std::int64_t tiles, double* squares, std::byte* scratch) {
  auto* of_tiles = reinterpret_cast<double*>(scratch);
  launch(over_tiles("adamw_direction (tiles)", tiles, stream), adamw_direction_kernel, list, count, of_tiles);
  launch(over_tiles("adamw_direction", count, stream), sum_tiles_kernel<AdamwRectangle, 2>, list, count, tiles, of_tiles, squares);
}

void step_squares(Stream stream, const FactoredRectangle* list, std::int64_t count, std::int64_t tiles, double* squares,
                  std::byte* scratch) {
  auto* of_tiles = reinterpret_cast<double*>(scratch);
  launch(over_tiles("factored_squares (tiles)", tiles, stream), factored_squares_kernel, list, count, of_tiles);
  launch(over_tiles("factored_squares", count, stream), sum_tiles_kernel<FactoredRectangle, 2>, list, count, tiles, of_tiles, squares);
}

void factored_moments(Stream stream, const FactoredMoments& op) {
  const std::int64_t rows = op.gradient.rows, columns = op.gradient.columns;
  FactoredParts parts;
  parts.beta2 = static_cast<float>(op.beta2);
  parts.scale = static_cast<float>(op.gradient_scale);
  parts.row_part = static_cast<float>((1 - op.beta2) / static_cast<double>(columns));
  parts.column_part = static_cast<float>((1 - op.beta2) / static_cast<double>(rows));
  parts.eps = static_cast<float>((1 - op.beta2) * op.eps);
  launch(over_tiles("factored_moments (rows)", rows, stream), factored_rows_kernel, op.row.row<float>(0), strided<float>(op.gradient),
         columns, parts);
  launch(over_tiles("factored_moments (columns)", (columns + kTileThreads - 1) / kTileThreads, stream), factored_columns_kernel,
         op.column.row<float>(0), strided<float>(op.gradient), rows, columns, parts);
}

void zero(Stream stream, const Rectangle* list, std::int64_t count, std::int64_t tiles) {
  launch(over_tiles("zero (list)", tiles, stream), zero_tiles_kernel, list, count);
}

}  // namespace elastiform::ELASTIFORM_GPU
