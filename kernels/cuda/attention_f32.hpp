#pragma once

// Tiles of 64 x 64 scores in float32, by blocks of 16 x 16 threads with 4 x 4 of them each: queries 4y … 4y + 3, keys 4x … 4x + 3.
#include "kernels/cuda/attention.hpp"

namespace elastiform::ELASTIFORM_GPU {

constexpr int kF32Tile = 64, kF32Threads = 256;
constexpr int kF32Quads = kF32Tile / 4;
/// [64][64] in shared memory. Quads of a row change places with the row's number: threads that store a row each then meet other banks than
/// their neighbours.
using F32Tile = Quad (*)[kF32Quads];
constexpr std::size_t kF32TileBytes = sizeof(Quad) * kF32Tile * kF32Quads;
GPU_FUNCTION Quad& quad_at(F32Tile tile, int row, int quad) { return tile[row][quad ^ row / 4 % kF32Quads]; }
using F32Sums = float[4][4];

GPU_FUNCTION int x_of_thread() { return static_cast<int>(threadIdx.x) % 16; }
GPU_FUNCTION int y_of_thread() { return static_cast<int>(threadIdx.x) / 16; }

/// tile[column][row] of 64 rows and columns of a head, zeros outside it. Neighbouring threads take neighbouring rows, which is how they
/// store without bank conflicts; that a row's sector is read by two warps costs nothing beyond L1.
GPU_FUNCTION void load_columns(const Source& s, int row, int column, bool rounds, F32Tile tile) {
  const int r = static_cast<int>(threadIdx.x) % kF32Tile;
  for (int c = static_cast<int>(threadIdx.x) / kF32Tile * 4; c < kF32Tile; c += 4 * kF32Threads / kF32Tile) {
    float four[4];
    load_four(s, row + r, column + c, four);
#pragma unroll
    for (int i = 0; i < 4; ++i) quad_at(tile, c + i, r / 4).items[r % 4] = operand(four[i], rounds);
  }
}
/// tile[row][column] of the same.
GPU_FUNCTION void load_rows(const Source& s, int row, int column, bool rounds, F32Tile tile) {
  const int quad = x_of_thread();
  for (int r = y_of_thread(); r < kF32Tile; r += kF32Threads / 16) {
    float four[4];
    load_four(s, row + r, column + 4 * quad, four);
    quad_at(tile, r, quad) = {{operand(four[0], rounds), operand(four[1], rounds), operand(four[2], rounds), operand(four[3], rounds)}};
  }
}

/// sums[i][j] += Σ_k a[k][4y + i] · b[k][4x + j] over the 64 rows of both tiles.
GPU_FUNCTION void multiply_f32_tiles(F32Tile a, F32Tile b, F32Sums& sums) {
#pragma unroll 4
  for (int k = 0; k < kF32Tile; ++k) {
    const Quad left = quad_at(a, k, y_of_thread()), right = quad_at(b, k, x_of_thread());
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(left.items[i], right.items[j], sums[i][j]);
    }
  }
}

/// tile[4x + j][4y + i] = x[i][j]: a row for each key.
GPU_FUNCTION void store_by_key(const F32Sums& x, bool rounds, F32Tile tile) {
#pragma unroll
  for (int j = 0; j < 4; ++j)
    quad_at(tile, 4 * x_of_thread() + j,
            y_of_thread()) = {{operand(x[0][j], rounds), operand(x[1][j], rounds), operand(x[2][j], rounds), operand(x[3][j], rounds)}};
}
/// tile[4y + i][4x + j] = x[i][j]: a row for each query.
GPU_FUNCTION void store_by_query(const F32Sums& x, bool rounds, F32Tile tile) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    quad_at(tile, 4 * y_of_thread() + i,
            x_of_thread()) = {{operand(x[i][0], rounds), operand(x[i][1], rounds), operand(x[i][2], rounds), operand(x[i][3], rounds)}};
}

/// Rows first + 4y + i and columns column + 4x + j of a head, as far as they are inside it.
GPU_FUNCTION void store_rows(const Target& t, int first, int rows, int column, int columns, const F32Sums& sums, float factor) {
  const int at = column + 4 * x_of_thread();
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = first + 4 * y_of_thread() + i;
    const float four[4] = {factor * sums[i][0], factor * sums[i][1], factor * sums[i][2], factor * sums[i][3]};
    if (row < rows && at < columns) store_elements(t, row, at, columns - at, four);
  }
}

/// Sum, or largest, over the 16 threads that share queries.
GPU_FUNCTION float sum_over_keys(float x) {
#pragma unroll
  for (int distance = 8; distance > 0; distance /= 2) x += __shfl_xor_sync(kFullMask, x, distance);
  return x;
}
GPU_FUNCTION float largest_over_keys(float x) {
#pragma unroll
  for (int distance = 8; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(kFullMask, x, distance));
  return x;
}

}  // namespace elastiform::ELASTIFORM_GPU
