// AdamW over all the rectangles of a step in one launch.
#include <cmath>

#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/rectangles.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

GPU_KERNEL adamw_kernel(const AdamwRectangle* list, std::int64_t count) {
  const AdamwRectangle op = list[rectangle_of_block(list, count)];
  const Extent extent = extent_of(op.weight);
  const Strided<float> weights{op.weight.data, op.weight.ld}, m{op.m, op.m_ld}, v{op.v, op.v_ld};
  for_each_group_of_tile(op.weight, [&](std::int64_t row, std::int64_t column) {
    float weight[kFour], first[kFour], second[kFour], g[kFour] = {};
    load_four(weight, weights, row, column, extent);
    load_four(first, m, row, column, extent);
    load_four(second, v, row, column, extent);
    if (op.gradient) load_four(g, Strided<const float>{op.gradient, op.gradient_ld}, row, column, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      g[i] *= op.gradient_scale;
      first[i] = fmaf(op.rest1, g[i], op.beta1 * first[i]);
      second[i] = fmaf(op.rest2 * g[i], g[i], op.beta2 * second[i]);
      const float denominator = fmaf(sqrtf(second[i]), op.root_correction, op.eps);
      weight[i] = op.shrink * weight[i] - op.step * first[i] / denominator;
    }
    store_four(m, row, column, extent, first);
    store_four(v, row, column, extent, second);
    store_four(weights, row, column, extent, weight);
    if (op.shadow) store_four(Strided<BFloat16>{op.shadow, op.weight.ld}, row, column, extent, weight);
  });
}

GPU_KERNEL zero_tiles_kernel(const Rectangle* list, std::int64_t count) {
  const Rectangle rectangle = list[rectangle_of_block(list, count)];
  for_each_group_of_tile(rectangle, [&](std::int64_t row, std::int64_t column) {
    const float zeros[kFour] = {};
    store_four(Strided<float>{rectangle.data, rectangle.ld}, row, column, extent_of(rectangle), zeros);
  });
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

AdamwRectangle rectangle_of(const Adamw& op, BFloat16* shadow, std::int64_t first_tile) {
  AdamwRectangle result;
  result.weight = rectangle_of(op.weight, first_tile);
  result.weight.aligned =
      all_aligned(op.weight, op.m, op.v, op.gradient) && reinterpret_cast<std::uintptr_t>(shadow) % sizeof(Four<BFloat16>) == 0;
  result.m = op.m.row<float>(0);
  result.v = op.v.row<float>(0);
  result.gradient = op.gradient.empty() ? nullptr : op.gradient.row<float>(0);
  result.shadow = shadow;
  result.m_ld = op.m.ld;
  result.v_ld = op.v.ld;
  result.gradient_ld = op.gradient.ld;
  result.shrink = static_cast<float>(1 - op.rate * op.decay);
  result.step = static_cast<float>(op.rate / op.correction1);
  result.root_correction = static_cast<float>(1 / std::sqrt(op.correction2));
  result.beta1 = static_cast<float>(op.beta1);
  result.beta2 = static_cast<float>(op.beta2);
  result.rest1 = static_cast<float>(1 - op.beta1);  // in double: 1 - 0.999f is off by 2e-5 of itself
  result.rest2 = static_cast<float>(1 - op.beta2);
  result.eps = static_cast<float>(op.eps);
  result.gradient_scale = static_cast<float>(op.gradient_scale);
  return result;
}

void adamw(Stream stream, const AdamwRectangle* list, std::int64_t count, std::int64_t tiles) {
  launch(over_tiles("adamw", tiles, stream), adamw_kernel, list, count);
}

void zero(Stream stream, const Rectangle* list, std::int64_t count, std::int64_t tiles) {
  launch(over_tiles("zero (list)", tiles, stream), zero_tiles_kernel, list, count);
}

}  // namespace elastiform::ELASTIFORM_GPU
