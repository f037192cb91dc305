// Per-target include guard, as Highway asks: this file is read once for every instruction set.
#if defined(ELASTIFORM_ATTENTION_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ELASTIFORM_ATTENTION_INL_HPP
#undef ELASTIFORM_ATTENTION_INL_HPP
#else
#define ELASTIFORM_ATTENTION_INL_HPP
#endif

#include <algorithm>

#include "kernels/cpu/math-inl.hpp"
#include "kernels/cpu/tile-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {

// Scores are kept transposed, a row per key and a lane per query: softmax then runs down the rows without horizontal sums, and both
// products read keys and values where they lie.
constexpr std::int64_t kQueries = 64;  // of a tile
constexpr std::int64_t kKeys = 64;     // of a block of scores: 16 KiB, beside a tile of queries in L1

// Eight rows at a time: tiles of four rows reach 80 % of the speed. At most lanes() rows, as a group may not straddle the diagonal.
#if HWY_TARGET == HWY_SCALAR
constexpr int kProductRows = 1, kProductVectors = 1;
#elif HWY_TARGET <= HWY_AVX3
constexpr int kProductRows = 8, kProductVectors = 2;
#else
constexpr int kProductRows = 4, kProductVectors = 2;
#endif

/// store(row, vector, sum) for each row < M and vector < `vectors` of the product A·B, described as for multiply_tile.
template <int kRows, int kVectors, bool kTransposed, class Store>
HWY_INLINE void product_rows(std::int64_t first, std::int64_t M, std::int64_t K, const float* a, std::int64_t lda, const float* b,
                             std::int64_t ldb, const Store& store) {
  for (; first + kRows <= M; first += kRows) {
    FloatVector sums[kRows][kVectors];
    multiply_tile<kRows, kVectors, kTransposed>(K, a + first * (kTransposed ? 1 : lda), lda, b, ldb, sums);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) store(first + r, v, sums[r][v]);
  }
  if constexpr (kRows > 1) {
    if (first < M) product_rows<kRows / 2, kVectors, kTransposed>(first, M, K, a, lda, b, ldb, store);
  }
}

template <int kVectors, bool kTransposed, class Store>
HWY_INLINE void product_vectors(std::int64_t vectors, std::int64_t M, std::int64_t K, const float* a, std::int64_t lda, const float* b,
                                std::int64_t ldb, const Store& store, std::int64_t done = 0) {
  for (; done + kVectors <= vectors; done += kVectors)
    product_rows<kProductRows, kVectors, kTransposed>(0, M, K, a, lda, b + done * lanes(), ldb,
                                                      [&](std::int64_t r, int v, FloatVector sum) HWY_ATTR { store(r, done + v, sum); });
  if constexpr (kVectors > 1) {
    if (done < vectors) product_vectors<kVectors / 2, kTransposed>(vectors, M, K, a, lda, b, ldb, store, done);
  }
}

template <bool kTransposed, class Store>
HWY_INLINE void product(std::int64_t vectors, std::int64_t M, std::int64_t K, const float* a, std::int64_t lda, const float* b,
                        std::int64_t ldb, const Store& store) {
  product_vectors<kProductVectors, kTransposed>(vectors, M, K, a, lda, b, ldb, store);
}

/// Blocks of scores of one tile of queries, in the order of the keys. visit(key, keys, vector, vectors): these keys against these vectors
/// of queries. Below the diagonal all queries at once; on it `step` vectors with the keys that their last query sees, so little is computed
/// in vain. Key `diagonal` is the last one that query 0 of the tile sees.
template <class Visit>
HWY_INLINE void for_score_blocks(std::int64_t diagonal, std::int64_t queries, std::int64_t step, const Visit& visit) {
  const std::int64_t vectors = (queries + lanes() - 1) / lanes();
  for (std::int64_t key = 0; key < diagonal; key += kKeys) visit(key, std::min(kKeys, diagonal - key), 0, vectors);
  for (std::int64_t v = 0; v < vectors; v += step) visit(diagonal, std::min((v + step) * lanes(), queries), v, std::min(step, vectors - v));
}

/// Vectors that are taken together on the diagonal: in bf16 as many as the depth that is packed together.
constexpr std::int64_t diagonal_step(bool bf16) { return bf16 ? 2 : 1; }

/// Lanes of vector v, whose queries are v·lanes + lane, that see key diagonal + j.
HWY_INLINE hn::Mask<Float> sees(std::int64_t j, std::int64_t v) {
  const Float d;
  return hn::Ge(hn::Iota(d, static_cast<float>(v * lanes())), hn::Set(d, static_cast<float>(j)));
}

/// rows[i][0 … stride) = factor · x[i][0 … D), filled up with zeros.
HWY_INLINE void copy_rows(std::int64_t rows, std::int64_t D, const float* x, std::int64_t ld, float factor, float* out,
                          std::int64_t stride) {
  for (std::int64_t i = 0; i < rows; ++i)
    for_vectors(D, [&](std::int64_t c, auto access) HWY_ATTR {
      hn::Store(hn::Mul(access.load(x + i * ld + c), hn::Set(Float(), factor)), Float(), out + i * stride + c);
    });
}

/// The D columns of one head or group in some rows.
template <class V>
HWY_INLINE V head_of(V x, std::int64_t row, std::int64_t rows, std::int64_t head, std::int64_t D) {
  return x.row_range(row, rows).column_range(head * D, D);
}

/// A block of scratch with kQueries columns.
HWY_INLINE ConstView block_of(const float* x, std::int64_t rows, std::int64_t columns) { return view_of(x, rows, columns, kQueries); }

/// out[D][kQueries] = the transposed rows; queries that are not there are zero.
HWY_INLINE void transpose_queries(std::int64_t queries, std::int64_t D, const float* rows, std::int64_t ld, float* out) {
  transpose(queries, D, rows, ld, out, kQueries);
  for (std::int64_t c = 0; queries < kQueries && c < D; ++c) std::fill(out + c * kQueries + queries, out + (c + 1) * kQueries, 0.0f);
}

/// out[D][kQueries] *= factor of each query, for some vectors of them.
HWY_INLINE void scale_queries(std::int64_t vectors, std::int64_t D, const float* factor, float* out) {
  const Float d;
  for (std::int64_t c = 0; c < D; ++c)
    for (std::int64_t i = 0; i < vectors * lanes(); i += lanes()) {
      float* at = out + c * kQueries + i;
      hn::Store(hn::Mul(hn::Load(d, at), hn::Load(d, factor + i)), d, at);
    }
}

}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
