// Matrix products in float32, without tensor cores.
#include "kernels/cuda/gemm.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

constexpr int kThreads = 256;

/// A tile of kTile x kTile sums, kDepth of K at a time. Of 8 warps, 4 x 2, each has 4 x 8 threads, a thread 4 x 4 sums in each of kParts
/// parts of its warp's rows and columns: the threads of a warp then read neighbouring quads of shared memory.
template <int kTile_>
struct Tile {
  static constexpr int kTile = kTile_, kDepth = 4 * kThreads / kTile;  // a thread brings four elements of a and of b
  static constexpr int kParts = kTile / 64, kOfThread = 4 * kParts;    // sums of a thread: kOfThread x kOfThread
  static constexpr int kWarpsAcross = 2, kThreadsAcross = 8, kThreadsDown = 4;
  static constexpr int kPitch = kTile / 4 + 1;  // quads of shared memory for one k; one more than needed, against bank conflicts
  static_assert(kWarpsAcross * kThreadsAcross * kOfThread == kTile && 4 * kThreadsDown * kOfThread == kTile);

  /// First row or column of a thread's part, in the tile.
  GPU_FUNCTION int row(int part) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    return ((warp / kWarpsAcross * kParts + part) * kThreadsDown + lane / kThreadsAcross) * 4;
  }
  GPU_FUNCTION int column(int part) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    return ((warp % kWarpsAcross * kParts + part) * kThreadsAcross + lane % kThreadsAcross) * 4;
  }
};

/// The four neighbours that a thread brings of a factor's tile: a place in it, as it is stored.
template <class Shape, bool kAlongK>
struct Share {
  static constexpr int kQuads = (kAlongK ? Shape::kDepth : Shape::kTile) / 4;

  GPU_FUNCTION void load(const Source& s, int first, int k, float (&quad)[4]) {
    const int row = static_cast<int>(threadIdx.x) / kQuads, column = static_cast<int>(threadIdx.x) % kQuads * 4;
    load_four(s, (kAlongK ? first : k) + row, (kAlongK ? k : first) + column, quad);
  }
  /// Shared memory has a row for each k.
  GPU_FUNCTION void store(Quad (*tile)[Shape::kPitch], const float (&quad)[4]) {
    const int row = static_cast<int>(threadIdx.x) / kQuads, column = static_cast<int>(threadIdx.x) % kQuads * 4;
    if constexpr (kAlongK) {
#pragma unroll
      for (int i = 0; i < 4; ++i) tile[column + i][row / 4].items[row % 4] = quad[i];
    } else {
      tile[row][column / 4] = {{quad[0], quad[1], quad[2], quad[3]}};
    }
  }
};

template <class Shape>
GPU_FUNCTION void multiply_tiles(const Quad (*a_tile)[Shape::kPitch], const Quad (*b_tile)[Shape::kPitch],
                                 float (&sums)[Shape::kOfThread][Shape::kOfThread]) {
#pragma unroll 2  // more would spill
  for (int k = 0; k < Shape::kDepth; ++k) {
    Quad a[Shape::kParts], b[Shape::kParts];
#pragma unroll
    for (int part = 0; part < Shape::kParts; ++part) {
      a[part] = a_tile[k][Shape::row(part) / 4];
      b[part] = b_tile[k][Shape::column(part) / 4];
    }
#pragma unroll
    for (int i = 0; i < Shape::kOfThread; ++i) {
#pragma unroll
      for (int j = 0; j < Shape::kOfThread; ++j) sums[i][j] = fmaf(a[i / 4].items[i % 4], b[j / 4].items[j % 4], sums[i][j]);
    }
  }
}

template <int kTile, bool kAAlongK, bool kBAlongK>
GPU_KERNEL __launch_bounds__(kThreads, 2) gemm_f32_kernel(Product p) {
  using Shape = Tile<kTile>;
  using ShareA = Share<Shape, kAAlongK>;
  using ShareB = Share<Shape, kBAlongK>;
  SHARED(Quad, a_tiles, [2][Shape::kDepth][Shape::kPitch]);
  SHARED(Quad, b_tiles, [2][Shape::kDepth][Shape::kPitch]);
  const Place place = place_of_block(p.M, p.N, kTile);
  float sums[Shape::kOfThread][Shape::kOfThread] = {};
  float a[4], b[4];
  const Depth depth = depth_of_block(p);
  ShareA::load(p.a, place.row, depth.begin, a);
  ShareB::load(p.b, place.column, depth.begin, b);
  ShareA::store(a_tiles[0], a);
  ShareB::store(b_tiles[0], b);
  __syncthreads();
  for (int k = depth.begin, now = 0; k < depth.end; k += Shape::kDepth, now ^= 1) {
    const bool more = k + Shape::kDepth < depth.end;
    if (more) {
      ShareA::load(p.a, place.row, k + Shape::kDepth, a);
      ShareB::load(p.b, place.column, k + Shape::kDepth, b);
    }
    multiply_tiles<Shape>(a_tiles[now], b_tiles[now], sums);
    if (more) {
      ShareA::store(a_tiles[now ^ 1], a);
      ShareB::store(b_tiles[now ^ 1], b);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < Shape::kOfThread; ++i) {
#pragma unroll
    for (int part = 0; part < Shape::kParts; ++part) {
      const float four[4] = {sums[i][4 * part], sums[i][4 * part + 1], sums[i][4 * part + 2], sums[i][4 * part + 3]};
      store_sums(p, place.row + Shape::row(i / 4) + i % 4, place.column + Shape::column(part), four);
    }
  }
}

template <int kTile>
void start(Stream stream, const Product& p) {
  const Launch l{"gemm_f32", grid_of(p, kTile), {kThreads}, 0, stream};
  if (!p.a_along_k) launch(l, gemm_f32_kernel<kTile, false, false>, p);
  else if (p.b_along_k) launch(l, gemm_f32_kernel<kTile, true, true>, p);
  else launch(l, gemm_f32_kernel<kTile, true, false>, p);
}

}  // namespace

void multiply_f32(Stream stream, const Product& product) {
  if (fills_large_tiles(product)) start<128>(stream, product);
  else start<64>(stream, product);
}

}  // namespace elastiform::ELASTIFORM_GPU
