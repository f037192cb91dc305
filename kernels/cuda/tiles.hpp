#pragma once

// Tiles of 16-bit elements in shared memory, and how tensor cores read them.
#include <cstdint>

#include "kernels/cuda/elements.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// A tile [rows, 8·kChunks] in shared memory. Chunks of a row change places with the row's number, so that the eight rows of one ldmatrix
/// matrix lie in different banks.
template <int kChunks_>
struct SharedTile {
  static constexpr int kChunks = kChunks_;
  static_assert(kChunks == 4 || kChunks == 8 || kChunks == 16);

  GPU_FUNCTION int place(int row, int chunk) { return (row * kChunks + (kChunks == 4 ? row / 2 % 4 : row % 8)) ^ chunk; }
};

/// A tile's place in shared memory: its first chunk, a multiple of eight rows from the beginning.
struct TileAt {
  Chunk* shared;
  int first;
};

/// Eight elements of a row of any type, from a multiple of eight on, zeros outside the matrix.
GPU_FUNCTION void load_eight(const Source& s, int row, int column, float (&x)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = 0;
  if (row >= s.rows || column >= s.columns) return;
  const std::int64_t at = row * s.ld + column;
  if (!s.vectors || column + 8 > s.columns) {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (column + i < s.columns) x[i] = load_element(s.data, at + i, s.dtype);
    return;
  }
  if (s.dtype == DType::float32) {
    const Quad* quads = reinterpret_cast<const Quad*>(static_cast<const float*>(s.data) + at);
    const Quad first = quads[0], second = quads[1];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[i] = first.items[i];
      x[4 + i] = second.items[i];
    }
    return;
  }
  const Chunk chunk = *reinterpret_cast<const Chunk*>(static_cast<const std::uint16_t*>(s.data) + at);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t pair = chunk.items[i];
    const bool is_bfloat16 = s.dtype == DType::bfloat16;
    x[2 * i] = is_bfloat16 ? first_of_pair<BFloat16>(pair) : first_of_pair<Float16>(pair);
    x[2 * i + 1] = is_bfloat16 ? second_of_pair<BFloat16>(pair) : second_of_pair<Float16>(pair);
  }
}

template <class T>
GPU_FUNCTION Chunk pack_eight(const float (&x)[8]) {
  return {{pack_pair<T>(x[0], x[1]), pack_pair<T>(x[2], x[3]), pack_pair<T>(x[4], x[5]), pack_pair<T>(x[6], x[7])}};
}

/// The same eight elements to shared memory, as T: what already is T goes by cp_async16 where it is aligned.
template <class T>
GPU_FUNCTION void bring_chunk(const Source& s, int row, int column, Chunk* to) {
  if (s.dtype == dtype_of<T> && s.vectors) {
    const int left = s.columns - column, elements = row >= s.rows || left <= 0 ? 0 : left < 8 ? left : 8;
    const T* from = static_cast<const T*>(s.data);
    cp_async16(to, elements > 0 ? from + (row * s.ld + column) : from, elements * static_cast<int>(sizeof(T)));
    return;
  }
  T* elements = reinterpret_cast<T*>(to);
#pragma unroll 1
  for (int i = 0; i < 8; ++i) {
    const bool inside = row < s.rows && column + i < s.columns;
    elements[i] = from_float<T>(inside ? load_element(s.data, row * s.ld + column + i, s.dtype) : 0);
  }
}

// Fragments of mma_m16n8k16 from a tile. Along K: a row of the tile is a row of a, or a column of b; across: a row for each k.

/// A lane's row of the four 8x8 matrices whose first is at (row, chunk), a multiple of 8 and an even number. `down`: 0 or 1, whether its
/// matrix is among the lower two; `right`: among the right two. What depends on the lane is one number for all fragments, from which they
/// are an exclusive or and an addition away. The tile's place is added first: where it changes with every step of a loop, compilers do not
/// keep all of a step's addresses in registers that sums need.
template <class Tile>
GPU_FUNCTION const Chunk* row_of_lane(TileAt tile, int row, int chunk, int down, int right) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return tile.shared + ((tile.first + Tile::place(8 * down + lane % 8, right)) ^ chunk) + row * Tile::kChunks;
}

/// a[16,16] from row (or column) m on and from k on.
template <class Tile, bool kAlongK>
GPU_FUNCTION void load_a(std::uint32_t (&a)[4], TileAt tile, int m, int k) {
  const int matrix = static_cast<int>(threadIdx.x) % 32 / 8;
  if constexpr (kAlongK) ldmatrix_x4(a, row_of_lane<Tile>(tile, m, k / 8, matrix % 2, matrix / 2));
  else ldmatrix_x4_trans(a, row_of_lane<Tile>(tile, k, m / 8, matrix / 2, matrix % 2));
}

/// b[16,16] as two fragments of [16,8]: b[0], b[1] of columns n … n + 7, b[2], b[3] of the next eight.
template <class Tile, bool kAlongK>
GPU_FUNCTION void load_b(std::uint32_t (&b)[4], TileAt tile, int n, int k) {
  const int matrix = static_cast<int>(threadIdx.x) % 32 / 8;
  if constexpr (kAlongK) ldmatrix_x4(b, row_of_lane<Tile>(tile, n, k / 8, matrix / 2, matrix % 2));
  else ldmatrix_x4_trans(b, row_of_lane<Tile>(tile, k, n / 8, matrix % 2, matrix / 2));
}

}  // namespace elastiform::ELASTIFORM_GPU
