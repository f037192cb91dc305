// AdamW with 8-bit moments: a thread block is a block of codes, a thread an element.
#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/rectangles.hpp"
#include "kernels/cuda/reduce.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

static_assert(kCodeBlock == kTileThreads && kCodes == kTileThreads);  // a thread loads one number of each map, too

struct DynamicMaps {
  static constexpr bool kNumbersOnly = true;
  float signed_numbers[kCodes], unsigned_numbers[kCodes];
  DynamicSearch signed_search, unsigned_search;
};
static_assert(DynamicMaps::kNumbersOnly);  // read only by the host runtime; nvcc asks for a use

/// Ordinal of a magnitude in [0, 1].
GPU_FUNCTION int ordinal_of(const DynamicSearch& search, float x) {
  float cells = 0, scale = 0, offset = 0, decade_cells = search.first_cells;
#pragma unroll
  for (int i = 0; i <= kDecades; ++i) {
    if (x > search.bounds[i]) {
      cells = decade_cells;
      scale = search.scale[i];
      offset = search.offset[i];
    }
    decade_cells *= 2;
  }
  if (cells == 0) return 0;
  const float cell = floorf(fmaf(x, scale, -offset));
  return static_cast<int>(cells + fmaxf(0.0f, fminf(cell, cells - 1)) - search.shift);
}

GPU_KERNEL adamw_8bit_kernel(const CodedRectangle* list, std::int64_t count, DynamicMaps maps) {
  SHARED(float, numbers, [2][kCodes]);
  const CodedRectangle op = list[rectangle_of_block(list, count)];
  const AdamwRectangle& step = op.step;
  numbers[0][threadIdx.x] = maps.signed_numbers[threadIdx.x];
  numbers[1][threadIdx.x] = maps.unsigned_numbers[threadIdx.x];
  __syncthreads();
  const std::int64_t block = static_cast<std::int64_t>(blockIdx.x) - step.weight.first_tile;
  const std::int64_t left = block % op.across * op.block_columns;
  const std::int64_t width = step.weight.columns - left < op.block_columns ? step.weight.columns - left : op.block_columns;
  const std::int64_t row = block / op.across * op.block_rows + threadIdx.x / width, column = left + threadIdx.x % width;
  const bool there = threadIdx.x < width * op.block_rows && row < step.weight.rows;
  float m = 0, v = 0;
  if (there) {
    const float g = step.gradient ? step.gradient_scale * step.gradient[row * step.gradient_ld + column] : 0.0f;
    m = fmaf(step.rest1, g, step.beta1 * (op.m_scale[block] * numbers[0][op.m[row * op.m_ld + column]]));
    v = fmaf(step.rest2 * g, g, step.beta2 * (op.v_scale[block] * numbers[1][op.v[row * op.v_ld + column]]));
    float& weight = step.weight.data[row * step.weight.ld + column];
    const float denominator = fmaf(sqrtf(v), step.root_correction, step.eps);
    weight = step.shrink * weight - step.step * m / denominator;
    if (step.shadow) step.shadow[row * step.weight.ld + column] = from_float<BFloat16>(weight);
  }
  float largest[3] = {m, -m, v};
  block_max(largest);  // all threads have read the scales when it returns
  const float m_scale = largest[0] >= largest[1] ? largest[0] : -largest[1], v_scale = largest[2];
  if (there) {
    const float part = m_scale == 0 ? 0.0f : m / m_scale;
    const int m_ordinal = ordinal_of(maps.signed_search, fabsf(part));
    const int m_code = part < 0 ? kZeroCode - (m_ordinal < kZeroCode ? m_ordinal : kZeroCode) : kZeroCode + m_ordinal;
    const int v_ordinal = v > 0 ? ordinal_of(maps.unsigned_search, v / v_scale) : 0;
    op.m[row * op.m_ld + column] = static_cast<std::uint8_t>(m_code);
    op.v[row * op.v_ld + column] = static_cast<std::uint8_t>(v > 0 && v_ordinal == 0 ? 1 : v_ordinal);
  }
  if (threadIdx.x == 0) {
    op.m_scale[block] = m_scale;
    op.v_scale[block] = v_scale;
  }
}

DynamicMaps make_maps() {
  DynamicMaps maps;
  for (int i = 0; i < kCodes; ++i) {
    maps.signed_numbers[i] = static_cast<float>(signed_map()[static_cast<std::size_t>(i)]);
    maps.unsigned_numbers[i] = static_cast<float>(unsigned_map()[static_cast<std::size_t>(i)]);
  }
  maps.signed_search = signed_search();
  maps.unsigned_search = unsigned_search();
  return maps;
}

}  // namespace

void run(Stream stream, const CodedRectangle* list, std::int64_t count, std::int64_t tiles) {
  static const DynamicMaps maps = make_maps();
  launch(over_tiles("adamw_8bit", tiles, stream), adamw_8bit_kernel, list, count, maps);
}

}  // namespace elastiform::ELASTIFORM_GPU
