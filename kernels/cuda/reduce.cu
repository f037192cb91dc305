// Sums in double: of squares, for the norm of a gradient, and of a row.
#include "kernels/cuda/reduce.hpp"

#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/rectangles.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

GPU_KERNEL tile_squares_kernel(const Rectangle* list, std::int64_t count, double* of_tiles) {
  const Rectangle rectangle = list[rectangle_of_block(list, count)];
  double sum[1] = {0};
  for_each_group_of_tile(rectangle, [&](std::int64_t row, std::int64_t column) {
    float x[kFour];
    load_four(x, Strided<const float>{rectangle.data, rectangle.ld}, row, column, extent_of(rectangle));
#pragma unroll
    for (int i = 0; i < kFour; ++i) sum[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);  // exact: 48 bits
  });
  block_sum(sum);
  if (threadIdx.x == 0) of_tiles[blockIdx.x] = sum[0];
}

constexpr int kRowThreads = 512;

GPU_KERNEL row_sum_kernel(const float* x, std::int64_t columns, double* sum) {
  double total[1] = {0};
  for (std::int64_t c = threadIdx.x; c < columns; c += kRowThreads) total[0] += static_cast<double>(x[c]);
  block_sum(total);
  if (threadIdx.x == 0) sum[0] = total[0];
}

}  // namespace

std::int64_t sum_squares_scratch_bytes(std::int64_t tiles) { return tiles * static_cast<std::int64_t>(sizeof(double)); }

void sum_squares(Stream stream, const Rectangle* list, std::int64_t count, std::int64_t tiles, double* sums, std::byte* scratch) {
  auto* of_tiles = reinterpret_cast<double*>(scratch);
  launch(over_tiles("sum_squares (tiles)", tiles, stream), tile_squares_kernel, list, count, of_tiles);
  launch(over_tiles("sum_squares", count, stream), sum_tiles_kernel<Rectangle, 1>, list, count, tiles, of_tiles, sums);
}

void row_sum(Stream stream, ConstView x, double* sum) {
  launch({.name = "row_sum", .grid = {}, .block = {kRowThreads}, .stream = stream}, row_sum_kernel, x.row<float>(0), x.columns, sum);
}

}  // namespace elastiform::ELASTIFORM_GPU
