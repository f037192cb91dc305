#include "tests/cuda/planted/planted.hpp"

// c[M, N] = a[M, K] · b[K, N] by 256 threads a 16x16 tile, sizes not multiples of the tile.
namespace elastiform::ELASTIFORM_GPU {

namespace {

enum Bug {
  kNone,
  kNoBarrierAfterLoad,
  kNoBarrierBeforeLoad,
  kRowUnchecked,
  kStoreUnchecked,
  kOneTooFar,
  kTailUnwritten,
  kHalfTheThreadsLeave
};

constexpr int kTile = 16;

template <Bug BUG>
GPU_KERNEL multiply_tiles(float* c, const float* a, const float* b, int M, int N, int K) {
  SHARED(float, tile_a, [kTile][kTile]);
  SHARED(float, tile_b, [kTile][kTile]);
  const int i = static_cast<int>(threadIdx.y), j = static_cast<int>(threadIdx.x);
  const int row = static_cast<int>(blockIdx.y) * kTile + i, column = static_cast<int>(blockIdx.x) * kTile + j;
  if (BUG == kHalfTheThreadsLeave && row >= M) return;
  float sum = 0;
  for (int k = 0; k < K; k += kTile) {
    const bool inside = BUG == kTailUnwritten || k + j < K;
    if (BUG == kRowUnchecked) tile_a[i][j] = inside ? a[row * K + k + j] : 0;
    else if (BUG != kTailUnwritten) tile_a[i][j] = row < M && inside ? a[row * K + k + j] : 0;
    else if (row < M && k + j < K) tile_a[i][j] = a[row * K + k + j];
    if (BUG != kTailUnwritten || (k + i < K && column < N)) tile_b[i][j] = k + i < K && column < N ? b[(k + i) * N + column] : 0;
    if (BUG != kNoBarrierAfterLoad) __syncthreads();
    const float *const from_a = tile_a[i], *const from_b = &tile_b[0][j];
    const int end = BUG == kOneTooFar ? kTile + 1 : kTile;
    for (int l = 0; l < end; ++l) sum += from_a[l] * from_b[l * kTile];
    if (BUG != kNoBarrierBeforeLoad) __syncthreads();
  }
  if (BUG == kStoreUnchecked || (row < M && column < N)) c[row * N + column] = sum;
}

template <Bug BUG>
bool run() {
  constexpr int kM = 37, kN = 29, kK = 43;
  const std::vector<float> a = small_numbers(kM * kK), b = small_numbers(kK * kN, 3);
  const DeviceArray<float> device_a(a), device_b(b), c(kM * kN);
  launch({"multiply_tiles", {(kN + kTile - 1) / kTile, (kM + kTile - 1) / kTile}, {kTile, kTile}}, multiply_tiles<BUG>, c.data(),
         device_a.data(), device_b.data(), kM, kN, kK);
  const std::vector<float> got = c.values();
  for (std::size_t m = 0; m < kM; ++m) {
    for (std::size_t n = 0; n < kN; ++n) {
      float sum = 0;
      for (std::size_t k = 0; k < kK; ++k) sum += a[m * kK + k] * b[k * kN + n];
      if (!(got[m * kN + n] == sum)) return false;
    }
  }
  return true;
}

}  // namespace

std::vector<Planted> planted_in_gemm() {
  return {
      {"none: tiled product", 0, Sign::none, run<kNone>},
      {"no barrier after the tiles are loaded", kAnyOrder | kThreadSanitizer, Sign::wrong_result, run<kNoBarrierAfterLoad>},
      {"no barrier before the next tiles are loaded", kAnyOrder | kThreadSanitizer, Sign::wrong_result, run<kNoBarrierBeforeLoad>},
      {"rows behind the matrix are read", kAddressSanitizer, Sign::none, run<kRowUnchecked>},
      {"rows and columns behind the matrix are written", kAnyOrder | kAddressSanitizer, Sign::wrong_result, run<kStoreUnchecked>},
      {"a loop goes one element too far in shared memory", kAnyOrder | kAddressSanitizer, Sign::wrong_result, run<kOneTooFar>},
      {"the tail of a tile is not written", kAnyOrder, Sign::wrong_result, run<kTailUnwritten>},
      {"threads without a row return before the barrier", kAnyOrder, Sign::report, run<kHalfTheThreadsLeave>},
  };
}

}  // namespace elastiform::ELASTIFORM_GPU
