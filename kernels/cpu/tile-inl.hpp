// Per-target include guard, as Highway asks: this file is read once for every instruction set.
#if defined(ELASTIFORM_TILE_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ELASTIFORM_TILE_INL_HPP
#undef ELASTIFORM_TILE_INL_HPP
#else
#define ELASTIFORM_TILE_INL_HPP
#endif

#include <hwy/cache_control.h>

#include <type_traits>

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
constexpr std::int64_t kMeanwhile = 32;  // steps of K between two calls of `meanwhile`

/// sums[r][v] += Σ_k A(r, k) · B(k, v) for `depth` steps of k, after which a and b point behind them.
template <int kRows, int kVectors, bool kTransposed>
HWY_INLINE void multiply_steps(std::int64_t depth, const float* HWY_RESTRICT& a, std::int64_t lda, const float* HWY_RESTRICT& b,
                               std::int64_t ldb, FloatVector (&sums)[kRows][kVectors]) {
  const Float d;
  const std::int64_t step = lanes();
  for (std::int64_t k = 0; k < depth; ++k) {
    // Rows of B, and of a transposed A, are pages of their own, where the hardware does not prefetch: 7 % of a product outside L2.
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) hwy::Prefetch(b + kPrefetchRows * ldb + v * step);
    if (kTransposed) hwy::Prefetch(a + kPrefetchRows * lda);
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

struct Nothing {
  HWY_INLINE void operator()(std::int64_t) const {}
};

/// sums[r][v] = Σ_k A(r, k) · B(k, v), k ascending in one chain of fused multiply-adds an element: its bits depend on neither the tile's
/// size nor its place. A(r, k) is a[r·lda + k], or a[k·lda + r] where kTransposed; B(k, v) the v-th vector from b + k·ldb.
/// meanwhile(i) is called before the i-th kMeanwhile steps, once if there are fewer, to ask for what is needed later.
template <int kRows, int kVectors, bool kTransposed, class Meanwhile = Nothing>
HWY_INLINE void multiply_tile(std::int64_t K, const float* HWY_RESTRICT a, std::int64_t lda, const float* HWY_RESTRICT b, std::int64_t ldb,
                              FloatVector (&sums)[kRows][kVectors], const Meanwhile& meanwhile = {}) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::Zero(Float());
  if constexpr (!std::is_same_v<Meanwhile, Nothing>) {
    if (K < kMeanwhile) meanwhile(0);
    for (std::int64_t i = 0; K >= kMeanwhile; K -= kMeanwhile) {
      meanwhile(i++);
      multiply_steps<kRows, kVectors, kTransposed>(kMeanwhile, a, lda, b, ldb, sums);
    }
  }
  multiply_steps<kRows, kVectors, kTransposed>(K, a, lda, b, ldb, sums);
}

}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
