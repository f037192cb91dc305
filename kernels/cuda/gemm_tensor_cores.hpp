#pragma once

// Matrix products on tensor cores with factors of type T, one of the two that gemm_tensor_cores.cu and gemm_tensor_cores_f16.cu are for.
#include "kernels/cuda/gemm.hpp"
#include "kernels/cuda/tiles.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// A tile of kTile x kTile sums, 32 of K at a time, through kStages buffers. A factor that is stored as T goes to shared memory by itself
/// (cp.async); one that must be converted passes through registers, which leaves fewer for sums: then a warp has 64 x 32 of them
/// instead of 64 x 64.
template <class T_, bool kAlongKA_, bool kAlongKB_, bool kConvertA_, bool kConvertB_, bool kLarge>
struct TensorGemm {
  using T = T_;
  static constexpr bool kAlongKA = kAlongKA_, kAlongKB = kAlongKB_, kConvertA = kConvertA_, kConvertB = kConvertB_;
  static constexpr int kTile = kLarge ? 128 : 64, kDepth = 32, kStages = 4;
  static constexpr int kWarpsDown = 2, kWarpsAcross = kLarge && (kConvertA || kConvertB) ? 4 : 2;
  static constexpr int kThreads = 32 * kWarpsDown * kWarpsAcross;
  static constexpr int kRows = kTile / kWarpsDown, kColumns = kTile / kWarpsAcross;  // of a warp
  static constexpr int kRowTiles = kRows / 16, kColumnTiles = kColumns / 8;
  static constexpr int kTileChunks = kTile * kDepth / kChunkElements, kShare = kTileChunks / kThreads;  // chunks that a thread brings
  static constexpr std::size_t kSharedBytes = sizeof(Chunk) * 2 * kTileChunks * kStages;

  using TileA = SharedTile<(kAlongKA ? kDepth : kTile) / kChunkElements>;
  using TileB = SharedTile<(kAlongKB ? kDepth : kTile) / kChunkElements>;
};

/// A thread's part of bringing one factor's tile. k: the first of the tile; first: its first row or column in the product.
template <class Gemm, class Tile, bool kAlongK, bool kConvert>
struct TileShare {
  static constexpr int kShare = Gemm::kShare;

  GPU_FUNCTION int row(int i) { return (static_cast<int>(threadIdx.x) + i * Gemm::kThreads) / Tile::kChunks; }
  GPU_FUNCTION int chunk(int i) { return (static_cast<int>(threadIdx.x) + i * Gemm::kThreads) % Tile::kChunks; }

  GPU_FUNCTION void begin(const Source& s, int first, int k, TileAt tile, float (&x)[kShare][8]) {
#pragma unroll
    for (int i = 0; i < kShare; ++i) {
      const int stored_row = (kAlongK ? first : k) + row(i), stored_column = (kAlongK ? k : first) + chunk(i) * kChunkElements;
      if constexpr (kConvert) load_eight(s, stored_row, stored_column, x[i]);
      else bring_chunk<typename Gemm::T>(s, stored_row, stored_column, tile.shared + tile.first + Tile::place(row(i), chunk(i)));
    }
  }
  /// Where they are converted, elements wait in registers while the tile before is multiplied.
  GPU_FUNCTION void end(TileAt tile, const float (&x)[kShare][8]) {
    if constexpr (kConvert) {
#pragma unroll
      for (int i = 0; i < kShare; ++i) tile.shared[tile.first + Tile::place(row(i), chunk(i))] = pack_eight<typename Gemm::T>(x[i]);
    }
  }
};

template <class Gemm>
GPU_FUNCTION void multiply_stage(TileAt a_tile, TileAt b_tile, float (&sums)[Gemm::kRowTiles][Gemm::kColumnTiles][4]) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int row = warp / Gemm::kWarpsAcross * Gemm::kRows, column = warp % Gemm::kWarpsAcross * Gemm::kColumns;
#pragma unroll
  for (int k = 0; k < Gemm::kDepth; k += 16) {
    std::uint32_t a[Gemm::kRowTiles][4], b[Gemm::kColumnTiles / 2][4];
#pragma unroll
    for (int i = 0; i < Gemm::kRowTiles; ++i) load_a<typename Gemm::TileA, Gemm::kAlongKA>(a[i], a_tile, row + 16 * i, k);
#pragma unroll
    for (int j = 0; j < Gemm::kColumnTiles / 2; ++j) load_b<typename Gemm::TileB, Gemm::kAlongKB>(b[j], b_tile, column + 16 * j, k);
#pragma unroll
    for (int i = 0; i < Gemm::kRowTiles; ++i) {
#pragma unroll
      for (int j = 0; j < Gemm::kColumnTiles; ++j)
        mma_m16n8k16<typename Gemm::T>(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }
}

/// Sums go through shared memory, so that a thread stores four neighbours and a warp whole rows. Quads of a row change places, so that the
/// pairs that half a warp stores at a time lie in different banks.
template <class Gemm>
GPU_FUNCTION void store_tile(const Product& p, const Place& place, const float (&sums)[Gemm::kRowTiles][Gemm::kColumnTiles][4],
                             Quad* tile) {
  constexpr int kQuads = Gemm::kTile / 4;
  static_assert(sizeof(Quad) * Gemm::kTile * kQuads <= Gemm::kSharedBytes);
  const auto quad_at = [&](int row, int quad) -> Quad& { return tile[row * kQuads + (quad ^ row % 4 * 2)]; };
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int row = warp / Gemm::kWarpsAcross * Gemm::kRows + lane / 4;
  const int column = warp % Gemm::kWarpsAcross * Gemm::kColumns + lane % 4 * 2;
  __syncthreads();  // nobody reads factors any more
#pragma unroll
  for (int i = 0; i < Gemm::kRowTiles; ++i) {
#pragma unroll
    for (int j = 0; j < Gemm::kColumnTiles; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Quad& quad = quad_at(row + 16 * i + 8 * half, (column + 8 * j) / 4);
        quad.items[column % 4] = sums[i][j][2 * half];
        quad.items[column % 4 + 1] = sums[i][j][2 * half + 1];
      }
    }
  }
  __syncthreads();
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x); i < Gemm::kTile * kQuads; i += Gemm::kThreads) {
    const int r = i / kQuads, quad = i % kQuads;
    store_sums(p, place.row + r, place.column + 4 * quad, quad_at(r, quad).items);
  }
}

template <class Gemm>
GPU_KERNEL __launch_bounds__(Gemm::kThreads, 1) gemm_tensor_cores_kernel(Product p) {
  DYN_SHARED(Chunk, shared);
  using ShareA = TileShare<Gemm, typename Gemm::TileA, Gemm::kAlongKA, Gemm::kConvertA>;
  using ShareB = TileShare<Gemm, typename Gemm::TileB, Gemm::kAlongKB, Gemm::kConvertB>;
  const Place place = place_of_block(p.M, p.N, Gemm::kTile);
  const Depth depth = depth_of_block(p);
  const int steps = (depth.end - depth.begin + Gemm::kDepth - 1) / Gemm::kDepth;
  float a[Gemm::kShare][8], b[Gemm::kShare][8];
  float sums[Gemm::kRowTiles][Gemm::kColumnTiles][4] = {};
  const auto tile_a = [&](int step) { return TileAt{shared, step % Gemm::kStages * 2 * Gemm::kTileChunks}; };
  const auto tile_b = [&](int step) { return TileAt{shared, (step % Gemm::kStages * 2 + 1) * Gemm::kTileChunks}; };
  const auto begin = [&](int step) {
    if (step < steps) {
      ShareA::begin(p.a, place.row, depth.begin + step * Gemm::kDepth, tile_a(step), a);
      ShareB::begin(p.b, place.column, depth.begin + step * Gemm::kDepth, tile_b(step), b);
    }
    cp_async_commit();
  };
  const auto end = [&](int step) {
    if (step >= steps) return;
    ShareA::end(tile_a(step), a);
    ShareB::end(tile_b(step), b);
  };
  for (int step = 0; step < Gemm::kStages - 1; ++step) {
    begin(step);
    end(step);
  }
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<Gemm::kStages - 2>();
    __syncthreads();  // this step's tile has arrived, and nobody reads the one before any more, whose buffer is filled next
    const int next = step + Gemm::kStages - 1;
    begin(next);
    multiply_stage<Gemm>(tile_a(step), tile_b(step), sums);
    end(next);
  }
  store_tile<Gemm>(p, place, sums, reinterpret_cast<Quad*>(shared));
}

template <class T, bool kAlongKA, bool kAlongKB, bool kConvertA, bool kConvertB>
void start_tensor_gemm(Stream stream, const Product& p) {
  const auto start = [&](auto gemm) {
    using Gemm = decltype(gemm);
    launch({"gemm_tensor_cores", grid_of(p, Gemm::kTile), {Gemm::kThreads}, Gemm::kSharedBytes, stream}, gemm_tensor_cores_kernel<Gemm>, p);
  };
  if (fills_large_tiles(p)) start(TensorGemm<T, kAlongKA, kAlongKB, kConvertA, kConvertB, true>{});
  else start(TensorGemm<T, kAlongKA, kAlongKB, kConvertA, kConvertB, false>{});
}

template <class T, bool kConvertA, bool kConvertB>
void start_tensor_gemm(Stream stream, const Product& p) {
  if (!p.a_along_k) start_tensor_gemm<T, false, false, kConvertA, kConvertB>(stream, p);
  else if (p.b_along_k) start_tensor_gemm<T, true, true, kConvertA, kConvertB>(stream, p);
  else start_tensor_gemm<T, true, false, kConvertA, kConvertB>(stream, p);
}

}  // namespace elastiform::ELASTIFORM_GPU
