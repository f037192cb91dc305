#pragma once

// What attention on tensor cores has in common: a warp has 16 rows of scores per row tile, in the fragments of mma_m16n8k16, and multiplies
// them again without passing through memory.
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/tiles.hpp"

namespace elastiform::ELASTIFORM_GPU {

constexpr float kLog2E = 1.4426950408889634f;

/// kRows rows of a head from `row` on, zeros after its last, to shared memory: what is stored in bfloat16 by cp.async.
template <class Tile, int kRows, int kThreads>
GPU_FUNCTION void bring_rows(const Source& s, int row, TileAt tile) {
#pragma unroll 1  // addresses of several chunks at a time take registers that sums need
  for (int i = static_cast<int>(threadIdx.x); i < kRows * Tile::kChunks; i += kThreads) {
    const int r = i / Tile::kChunks, chunk = i % Tile::kChunks;
    bring_chunk<BFloat16>(s, row + r, chunk * kChunkElements, tile.shared + tile.first + Tile::place(r, chunk));
  }
}

/// sums[16 · rows of a][8 · kColumnTiles] += a[16, kDepth] · bᵀ, both along the depth: row `m` of a on, row 0 of b on.
template <class Tile, int kDepth, int kColumnTiles>
GPU_FUNCTION void multiply_rows(TileAt a_tile, int m, TileAt b_tile, float (&sums)[kColumnTiles][4]) {
#pragma unroll 4
  for (int k = 0; k < kDepth; k += 16) {
    std::uint32_t a[4];
    load_a<Tile, true>(a, a_tile, m, k);
#pragma unroll
    for (int j = 0; j < kColumnTiles; j += 2) {
      std::uint32_t b[4];
      load_b<Tile, true>(b, b_tile, 8 * j, k);
      mma_m16n8k16<BFloat16>(sums[j], a, b[0], b[1]);
      mma_m16n8k16<BFloat16>(sums[j + 1], a, b[2], b[3]);
    }
  }
}

/// Columns 16·step … 16·step + 15 of a warp's scores as the left factor of another product, rounded.
template <int kColumnTiles>
GPU_FUNCTION void as_factor(const float (&x)[kColumnTiles][4], int step, std::uint32_t (&a)[4]) {
  a[0] = pack_pair<BFloat16>(x[2 * step][0], x[2 * step][1]);
  a[1] = pack_pair<BFloat16>(x[2 * step][2], x[2 * step][3]);
  a[2] = pack_pair<BFloat16>(x[2 * step + 1][0], x[2 * step + 1][1]);
  a[3] = pack_pair<BFloat16>(x[2 * step + 1][2], x[2 * step + 1][3]);
}

/// sums[16, 8 · kHeadTiles] += x[16, 8 · kColumnTiles] · rows, where tile row k stands for column k of x.
template <class Tile, int kColumnTiles, int kHeadTiles>
GPU_FUNCTION void multiply_scores(const float (&x)[kColumnTiles][4], TileAt tile, float (&sums)[kHeadTiles][4]) {
#pragma unroll
  for (int step = 0; step < kColumnTiles / 2; ++step) {
    std::uint32_t a[4];
    as_factor(x, step, a);
#pragma unroll
    for (int j = 0; j < kHeadTiles; j += 2) {
      std::uint32_t b[4];
      load_b<Tile, false>(b, tile, 8 * j, 16 * step);
      mma_m16n8k16<BFloat16>(sums[j], a, b[0], b[1]);
      mma_m16n8k16<BFloat16>(sums[j + 1], a, b[2], b[3]);
    }
  }
}

template <class T, bool kVectors, int kHeadTiles>
GPU_FUNCTION void store_head_as(const Target& t, int row, int rows, const float (&sums)[kHeadTiles][4], const float (&factors)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    T* to = static_cast<T*>(t.data) + (row + 8 * half) * t.ld + static_cast<int>(threadIdx.x) % 4 * 2;
    const bool inside = row + 8 * half < rows;
#pragma unroll
    for (int j = 0; j < kHeadTiles; ++j) {
      const Vector<T, 2> pair = {{from_float<T>(factors[half] * sums[j][2 * half]), from_float<T>(factors[half] * sums[j][2 * half + 1])}};
      if (!inside) continue;
      if constexpr (kVectors) {
        *reinterpret_cast<Vector<T, 2>*>(to + 8 * j) = pair;
      } else {
        to[8 * j] = pair.items[0];
        to[8 * j + 1] = pair.items[1];
      }
    }
  }
}
template <class T, int kHeadTiles>
GPU_FUNCTION void store_head_as(const Target& t, int row, int rows, const float (&sums)[kHeadTiles][4], const float (&factors)[2]) {
  if (t.vectors) store_head_as<T, true>(t, row, rows, sums, factors);
  else store_head_as<T, false>(t, row, rows, sums, factors);
}
/// Rows of a head from a warp's sums: row `first` + lane / 4 and the eighth after it, times their factors. Decided once what is stored and
/// how, as the sums stay in registers only while loops over them are small enough to be unrolled.
template <int kHeadTiles>
GPU_FUNCTION void store_head(const Target& t, int first, int rows, const float (&sums)[kHeadTiles][4], const float (&factors)[2]) {
  const int row = first + static_cast<int>(threadIdx.x) % 32 / 4;
  if (t.dtype == DType::float32) store_head_as<float>(t, row, rows, sums, factors);
  else if (t.dtype == DType::bfloat16) store_head_as<BFloat16>(t, row, rows, sums, factors);
  else store_head_as<Float16>(t, row, rows, sums, factors);
}

}  // namespace elastiform::ELASTIFORM_GPU
