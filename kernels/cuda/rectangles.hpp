#pragma once

// How blocks find their part of a list of rectangles, when one launch serves many of any size.
#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {

constexpr std::uint32_t kTileGroups = kTileElements / kFour;  // groups of four columns; the last of a row may be shorter
constexpr int kTileThreads = 256;

GPU_FUNCTION std::int64_t first_tile_of(const Rectangle& rectangle) { return rectangle.first_tile; }
template <class Step>
GPU_FUNCTION std::int64_t first_tile_of(const Step& step) {
  return step.weight.first_tile;
}
GPU_FUNCTION std::int64_t first_tile_of(const CodedRectangle& rectangle) { return rectangle.step.weight.first_tile; }

/// Number of the rectangle that tile blockIdx.x is of: the last one that begins at it or before.
template <class AnyRectangle>
GPU_FUNCTION std::int64_t rectangle_of_block(const AnyRectangle* list, std::int64_t count) {
  std::int64_t first = 0, end = count;
  while (end - first > 1) {
    const std::int64_t middle = (first + end) / 2;
    if (first_tile_of(list[middle]) <= static_cast<std::int64_t>(blockIdx.x)) first = middle;
    else end = middle;
  }
  return first;
}

/// body(row, column) for the groups of four columns of this block's tile, thread by thread.
template <class Body>
GPU_FUNCTION void for_each_group_of_tile(const Rectangle& rectangle, const Body& body) {
  const auto of_row = static_cast<std::uint32_t>((rectangle.columns + kFour - 1) / kFour);
  const std::uint32_t groups = of_row * static_cast<std::uint32_t>(rectangle.rows);
  const std::uint32_t first = static_cast<std::uint32_t>(blockIdx.x - rectangle.first_tile) * kTileGroups;
  for (std::uint32_t i = threadIdx.x; i < kTileGroups && first + i < groups; i += kTileThreads) {
    const std::uint32_t row = (first + i) / of_row;
    body(static_cast<std::int64_t>(row), static_cast<std::int64_t>(first + i - row * of_row) * kFour);
  }
}

/// A block a rectangle: sums of N numbers of each of its tiles.
template <class AnyRectangle, int N>
GPU_KERNEL sum_tiles_kernel(const AnyRectangle* list, std::int64_t count, std::int64_t tiles, const double* of_tiles, double* sums) {
  const std::int64_t i = blockIdx.x, end = i + 1 < count ? first_tile_of(list[i + 1]) : tiles;
  double sum[N] = {};
  for (std::int64_t tile = first_tile_of(list[i]) + threadIdx.x; tile < end; tile += kTileThreads)
    for (int k = 0; k < N; ++k) sum[k] += of_tiles[tile * N + k];
  block_sum(sum);
  if (threadIdx.x == 0)
    for (int k = 0; k < N; ++k) sums[i * N + k] = sum[k];
}

GPU_FUNCTION Extent extent_of(const Rectangle& rectangle) { return {rectangle.rows, rectangle.columns, rectangle.aligned}; }

inline Launch over_tiles(const char* name, std::int64_t tiles, Stream stream) {
  return {.name = name, .grid = {static_cast<unsigned int>(tiles)}, .block = {kTileThreads}, .stream = stream};
}

}  // namespace elastiform::ELASTIFORM_GPU
