// Per-target include guard, as Highway asks: this file is read once for every instruction set.
#if defined(ELASTIFORM_TILE_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ELASTIFORM_TILE_INL_HPP
#undef ELASTIFORM_TILE_INL_HPP
#else
#define ELASTIFORM_TILE_INL_HPP
#endif

#include <hwy/cache_control.h>

#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {

// Registers: kTileRows x kTileVectors sums, one vector of B each column and a broadcast of A must fit 32 (AVX-512) or 16.
#if HWY_TARGET <= HWY_AVX3
constexpr int kTileRows = 8, kTileVectors = 3;
#else
constexpr int kTileRows = 4, kTileVectors = 3;
#endif

constexpr std::int64_t kPrefetchRows = 8;

/// sums[r][v] = Σ_k A(r, k) · B(k, v), k ascending in one chain of fused multiply-adds an element: its bits depend on neither the tile's
/// size nor its place. `next`, if any, are the rows of A that follow; they are asked for meanwhile. A(r, k) is a[r·lda + k], or a[k·lda + r] where kTransposed; B(k, v) the v-th vector from b + k·ldb.
template <int kRows, int kVectors, bool kTransposed>
HWY_INLINE void multiply_tile(std::int64_t K, const float* HWY_RESTRICT a, std::int64_t lda, const float* HWY_RESTRICT b, std::int64_t ldb,
                              FloatVector (&sums)[kRows][kVectors], const float* next = nullptr) {
  const Float d;
  const std::int64_t step = lanes();
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::Zero(d);
  for (std::int64_t k = 0; k < K; ++k) {
    // Rows of B, and of a transposed A, are pages of their own, where the hardware does not prefetch: 7 % of a product outside L2.
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) hwy::Prefetch(b + kPrefetchRows * ldb + v * step);
    if (kTransposed) hwy::Prefetch(a + kPrefetchRows * lda);
    if (!kTransposed && next) hwy::Prefetch(next + k % kRows * lda + k / kRows * kRows);
    FloatVector row[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, b + v * step);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const FloatVector x = hn::Set(d, kTransposed ? a[r] : a[r * lda]);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(x, row[v], sums[r][v]);
    }
    a += kTransposed ? lda : 1;
    b += ldb;
  }
}

}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
