#pragma once

// What the three matrix products of kernels/ops/matmul.hpp have in common.
#include <cstdint>

#include "kernels/cuda/elements.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// Where a product goes: c = scale · (sum + bias) + add. Empty bias or add: none; add may be c itself, in float32.
struct Output {
  Target target;
  const float* bias = nullptr;
  const float* add = nullptr;
  std::int64_t add_ld = 0;
  float scale = 1;
  bool add_vectors = false;
};

/// c[M,N] = a[M,K] · b[K,N]. A factor is stored along K, as [M,K] and [N,K], or across it, as [K,M] and [K,N].
/// More than one part: each sums over `depth` of K, the last over what is left, and c[parts · M, N] has a row for each of their sums.
struct Product {
  Output c;
  Source a, b;
  int M = 0, N = 0, K = 0;
  bool a_along_k = false, b_along_k = false;
  int parts = 1, depth = 0;
};

// Every sum is taken over ascending K, or its part's, one product (float32) or 16 (tensor cores) at a time: its bits depend neither on the
// tile it lies in nor on how far rows are apart.
void multiply_f32(Stream stream, const Product& product);
/// Factors are rounded to bfloat16, or to float16 if one of them is stored so.
void multiply_on_tensor_cores(Stream stream, const Product& product);
void multiply_float16_on_tensor_cores(Stream stream, const Product& product);

/// Tiles of 128x128 read the factors least, but they should be enough for 132 multiprocessors.
inline bool fills_large_tiles(const Product& p) {
  constexpr std::int64_t kTile = 128, kEnough = 120;
  return (p.M + kTile - 1) / kTile * ((p.N + kTile - 1) / kTile) >= kEnough;
}
inline Dim3 grid_of(const Product& p, int tile) {
  return {static_cast<unsigned int>((p.M + tile - 1) / tile) * static_cast<unsigned int>((p.N + tile - 1) / tile),
          static_cast<unsigned int>(p.parts)};
}

/// First row and column of a block's tile.
struct Place {
  int row, column;
};
/// The part of K that a block sums over.
struct Depth {
  int begin, end;
};
GPU_FUNCTION Depth depth_of_block(const Product& p) {
  const int begin = static_cast<int>(blockIdx.y) * p.depth, end = begin + p.depth;
  return {begin, p.parts == 1 || end > p.K ? p.K : end};
}
/// Blocks that run at the same time share rows of a and columns of b in L2: eight rows of tiles, column after column.
GPU_FUNCTION Place place_of_block(int M, int N, int tile) {
  constexpr int kRows = 8;
  const int down = (M + tile - 1) / tile, across = (N + tile - 1) / tile, block = static_cast<int>(blockIdx.x);
  const int first = block / (kRows * across) * kRows, i = block % (kRows * across);
  const int rows = down - first < kRows ? down - first : kRows;
  return {(first + i % rows) * tile, i / rows * tile};
}

/// Writes four neighbouring sums of a row, as far as they are inside c[M,N]. column is a multiple of four.
GPU_FUNCTION void store_sums(const Product& p, int row, int column, const float (&sums)[4]) {
  constexpr int kCount = 4;
  if (row >= p.M || column >= p.N) return;
  const Output& c = p.c;
  const int count = p.N - column;
  float x[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) x[i] = c.bias && i < count ? sums[i] + c.bias[column + i] : sums[i];
  if (c.add) {
    const float* add = c.add + row * c.add_ld + column;
    Quad added;
    if (c.add_vectors && count >= kCount) {
      added = *reinterpret_cast<const Quad*>(add);
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) added.items[i] = i < count ? add[i] : 0;
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] = fmaf(c.scale, x[i], added.items[i]);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] *= c.scale;
  }
  store_elements(c.target, row + static_cast<int>(blockIdx.y) * p.M, column, count, x);
}

}  // namespace elastiform::ELASTIFORM_GPU
