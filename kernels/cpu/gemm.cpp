#include "kernels/cpu/gemm.hpp"

#include <algorithm>
#include <array>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/tile-inl.hpp"

#ifndef ELASTIFORM_GEMM_ONCE
#define ELASTIFORM_GEMM_ONCE
namespace elastiform::cpu {

constexpr std::int64_t kDepth = 384;      // of K at a time: eight rows of A stay in L1 (12 KiB), the columns of B in L2 (72 KiB)
constexpr std::int64_t kRowBlock = 256;   // rows of A that share one packing of B
constexpr std::int64_t kMaxColumns = 48;  // of a tile: three vectors of AVX-512

/// Packed operands and partial sums of one thread. Used within one serial call only, so no wait ever sees it half used.
struct alignas(64) Workspace {
  std::array<float, kDepth * kMaxColumns> b;
  std::array<float, kRowBlock * kMaxColumns> partial;
};
inline Workspace& workspace() {
  thread_local Workspace buffers;
  return buffers;
}

}  // namespace elastiform::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
using cpu::Gemm;
using cpu::GemmAccumulate;
using cpu::kDepth;
using cpu::kRowBlock;

/// Where the sums of a tile go: into `partial` while more blocks of K follow, else through the epilogue into c.
struct TileOutput {
  const float* partial_in;  // null for the first block of K
  float* partial_out;       // null for the last one
  float* c;
  std::int64_t ldc, columns;
  float scale;
  const float* bias;
  const float* add;
  std::int64_t ldadd;
  bool first_column;
};

HWY_INLINE std::int64_t tile_columns() { return kTileVectors * lanes(); }

template <class Access>
HWY_INLINE void write_vector(const TileOutput& out, FloatVector sum, std::int64_t r, std::int64_t column, const Access& access) {
  const Float d;
  const std::int64_t at = r * tile_columns() + column;
  if (out.partial_in) sum = hn::Add(sum, hn::Load(d, out.partial_in + at));
  if (out.partial_out) return hn::Store(sum, d, out.partial_out + at);
  if (out.bias) sum = hn::Add(sum, access.load(out.bias + column));
  sum = hn::Mul(sum, hn::Set(d, out.scale));
  if (out.add) sum = hn::Add(sum, access.load(out.add + r * out.ldadd + column));
  access.store(sum, out.c + r * out.ldc + column);
}

template <int kRows, int kVectors, bool kTransposed>
HWY_NOINLINE void tile(std::int64_t K, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, const TileOutput& out,
                       const float* next) {
  FloatVector sums[kRows][kVectors];
  const std::int64_t step = lanes();
  // Lines of c arrive while the product is computed instead of when it is stored.
  if (!out.partial_out)
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) hwy::Prefetch(out.c + r * out.ldc + std::min(v * step, out.columns - 1));
  multiply_tile<kRows, kVectors, kTransposed>(K, a, lda, b, ldb, sums, next);
  const std::int64_t last = out.columns - (kVectors - 1) * step;  // columns in the last vector
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      if (v + 1 < kVectors || last == step) write_vector(out, sums[r][v], r, v * step, Whole{});
      else write_vector(out, sums[r][v], r, v * step, Partial{last});
    }
}

TileOutput below(TileOutput out, std::int64_t rows) {
  const std::int64_t offset = rows * tile_columns();
  if (out.partial_in) out.partial_in += offset;
  if (out.partial_out) out.partial_out += offset;
  if (out.add) out.add += rows * out.ldadd;
  out.c += rows * out.ldc;
  return out;
}

/// Rows `first` to `rows` of a column of tiles; what is left below the last full tile by halves, as the bits do not depend on it.
template <int kRows, int kVectors, bool kTransposed>
void tile_rows(std::int64_t first, std::int64_t rows, std::int64_t K, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
               const TileOutput& out) {
  for (; first + kRows <= rows; first += kRows) {
    const float* rows_of_a = a + first * (kTransposed ? 1 : lda);
    // The first column of tiles is the first to read these rows; later ones find them in L2.
    const bool fetch = out.first_column && first + 2 * kRows <= rows;
    tile<kRows, kVectors, kTransposed>(K, rows_of_a, lda, b, ldb, below(out, first), fetch ? rows_of_a + kRows * lda : nullptr);
  }
  if constexpr (kRows > 1) {
    if (first < rows) tile_rows<kRows / 2, kVectors, kTransposed>(first, rows, K, a, lda, b, ldb, out);
  }
}

template <bool kTransposed>
void tile_column(std::int64_t rows, std::int64_t K, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
                 const TileOutput& out) {
  const std::int64_t vectors = (out.columns + lanes() - 1) / lanes();
  if (vectors == 3) return tile_rows<kTileRows, 3, kTransposed>(0, rows, K, a, lda, b, ldb, out);
  if (vectors == 2) return tile_rows<kTileRows, 2, kTransposed>(0, rows, K, a, lda, b, ldb, out);
  tile_rows<kTileRows, 1, kTransposed>(0, rows, K, a, lda, b, ldb, out);
}

/// packed[k][j] = b[j][k] (or b[k][j]) for j < n, zeros up to the end of the last vector.
void pack(std::int64_t K, std::int64_t n, const float* b, std::int64_t ldb, bool transposed, float* packed) {
  const std::int64_t width = tile_columns(), end = (n + lanes() - 1) / lanes() * lanes();
  if (transposed) {
    transpose(n, K, b, ldb, packed, width);
    for (std::int64_t j = n; j < end; ++j)
      for (std::int64_t k = 0; k < K; ++k) packed[k * width + j] = 0;
    return;
  }
  for (std::int64_t k = 0; k < K; ++k, b += ldb, packed += width)
    for_vectors(n, [&](std::int64_t c, auto access) HWY_ATTR { hn::Store(access.load(b + c), Float(), packed + c); });
}

/// The operand B of one column of tiles: where it lies if its rows are whole vectors (packing would cost 3 % with 256 rows of A, 11 %
/// with 64), else packed.
struct Columns {
  const float* b;
  std::int64_t ldb;

  Columns(std::int64_t K, std::int64_t n, const float* source, std::int64_t ld, bool transposed, cpu::Workspace& space)
      : b(source), ldb(ld) {
    if (!transposed && n % lanes() == 0) return;
    pack(K, n, source, ld, transposed, space.b.data());
    b = space.b.data();
    ldb = tile_columns();
  }
};

/// visit(column, columns) for each column of tiles. Four vectors are cut into 2 + 2.
template <class Visit>
HWY_INLINE void for_tile_columns(std::int64_t N, const Visit& visit) {
  for (std::int64_t n = 0, columns = 0; n < N; n += columns) {
    const std::int64_t left = N - n;
    columns = left > tile_columns() && left <= 4 * lanes() ? 2 * lanes() : std::min(tile_columns(), left);
    visit(n, columns);
  }
}

/// kRowBlock rows at most of one column of tiles, all of K.
void gemm_column(const Gemm& op, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns, cpu::Workspace& space) {
  for (std::int64_t k = 0; k == 0 || k < op.K; k += kDepth) {
    const std::int64_t depth = std::min(kDepth, op.K - k);
    const Columns b(depth, columns, op.transposed ? op.b + column * op.ldb + k : op.b + k * op.ldb + column, op.ldb, op.transposed, space);
    const TileOutput out{.partial_in = k > 0 ? space.partial.data() : nullptr,
                         .partial_out = k + kDepth < op.K ? space.partial.data() : nullptr,
                         .c = op.c + row * op.ldc + column,
                         .ldc = op.ldc,
                         .columns = columns,
                         .scale = op.scale,
                         .bias = op.bias ? op.bias + column : nullptr,
                         .add = op.add ? op.add + row * op.ldadd + column : nullptr,
                         .ldadd = op.ldadd,
                         .first_column = column == 0};
    tile_column<false>(rows, depth, op.a + row * op.lda + k, op.lda, b.b, b.ldb, out);
  }
}

void run_gemm(const Gemm& op) {
  cpu::Workspace& space = cpu::workspace();
  for (std::int64_t m = 0; m < op.M; m += kRowBlock)
    for_tile_columns(
        op.N, [&](std::int64_t n, std::int64_t columns) HWY_ATTR { gemm_column(op, m, std::min(kRowBlock, op.M - m), n, columns, space); });
}

void run_gemm_accumulate(const GemmAccumulate& op) {
  cpu::Workspace& space = cpu::workspace();
  for (std::int64_t k = 0; k == 0 || k < op.K; k += kDepth) {
    const std::int64_t depth = std::min(kDepth, op.K - k);
    for_tile_columns(op.N, [&](std::int64_t n, std::int64_t columns) HWY_ATTR {
      const Columns b(depth, columns, op.b + k * op.ldb + n, op.ldb, false, space);
      float* c = op.c + n;
      const TileOutput out{.partial_in = nullptr,
                           .partial_out = nullptr,
                           .c = c,
                           .ldc = op.ldc,
                           .columns = columns,
                           .scale = op.scale,
                           .bias = nullptr,
                           .add = k > 0 || op.accumulate ? c : nullptr,
                           .ldadd = op.ldc,
                           .first_column = false};
      tile_column<true>(op.M, depth, op.a + k * op.lda, op.lda, b.b, b.ldb, out);
    });
  }
}

}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(run_gemm);
HWY_EXPORT(run_gemm_accumulate);

namespace cpu {

void gemm(const Gemm& op) { HWY_DYNAMIC_DISPATCH(run_gemm)(op); }
void gemm_accumulate(const GemmAccumulate& op) { HWY_DYNAMIC_DISPATCH(run_gemm_accumulate)(op); }

}  // namespace cpu
}  // namespace elastiform
#endif
