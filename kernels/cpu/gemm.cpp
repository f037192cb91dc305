#include "kernels/cpu/gemm.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/tile-inl.hpp"

#ifndef ELASTIFORM_GEMM_ONCE
#define ELASTIFORM_GEMM_ONCE
namespace elastiform::cpu {

// A block of B is packed at a time: 288 KiB of L2. Reading 768 B of a row at once lets the prefetcher follow.
constexpr std::int64_t kDepth = 384, kPackColumns = 192;
constexpr std::int64_t kRowBlock = 256;  // rows of A that share one packing of B

/// Packed operands and partial sums of one thread. Used within one serial call only, so no wait ever sees it half used.
struct alignas(64) Workspace {
  std::array<float, kDepth * kPackColumns> b;
  std::array<float, kRowBlock * kPackColumns> partial;
  std::array<float, kDepth * kAccumulateRows> a;
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
using cpu::kPackColumns;

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
HWY_NOINLINE void tile(std::int64_t K, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, const TileOutput& out) {
  FloatVector sums[kRows][kVectors];
  multiply_tile<kRows, kVectors, kTransposed>(K, a, lda, b, ldb, sums);
  const std::int64_t step = lanes();
  const std::int64_t last = out.columns - (kVectors - 1) * step;  // columns in the last vector
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      if (v + 1 < kVectors || last == step)
        write_vector(out, sums[r][v], r, v * step, Whole{});
      else
        write_vector(out, sums[r][v], r, v * step, Partial{last});
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
    // A transposed operand is packed: kTileRows rows of A a sliver, K slices of it one after the other.
    const float* rows_of_a = kTransposed ? a + first / kTileRows * kTileRows * K + first % kTileRows : a + first * lda;
    tile<kRows, kVectors, kTransposed>(K, rows_of_a, lda, b, ldb, below(out, first));
  }
  if constexpr (kRows > 1) {
    if (first < rows) tile_rows<kRows / 2, kVectors, kTransposed>(first, rows, K, a, lda, b, ldb, out);
  }
}

template <bool kTransposed>
void tile_column(std::int64_t rows, std::int64_t K, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, const TileOutput& out) {
  const std::int64_t vectors = (out.columns + lanes() - 1) / lanes();
  if (vectors == 3) return tile_rows<kTileRows, 3, kTransposed>(0, rows, K, a, lda, b, ldb, out);
  if (vectors == 2) return tile_rows<kTileRows, 2, kTransposed>(0, rows, K, a, lda, b, ldb, out);
  tile_rows<kTileRows, 1, kTransposed>(0, rows, K, a, lda, b, ldb, out);
}

/// packed[k][0 … tile_columns()) = b[k][0 … n), the last vector filled up with zeros.
void pack_rows(std::int64_t K, std::int64_t n, const float* b, std::int64_t ldb, float* packed) {
  const std::int64_t width = tile_columns();
  if (n == width) {
    for (std::int64_t k = 0; k < K; ++k, b += ldb, packed += width)
#pragma GCC unroll 16
      for (int v = 0; v < kTileVectors; ++v) hn::Store(hn::LoadU(Float(), b + v * lanes()), Float(), packed + v * lanes());
    return;
  }
  for (std::int64_t k = 0; k < K; ++k, b += ldb, packed += width)
    for_vectors(n, [&](std::int64_t c, auto access) HWY_ATTR { hn::Store(access.load(b + c), Float(), packed + c); });
}

/// packed[k][j] = b[j][k] for j < n, zeros up to the end of the last vector.
void pack_transposed(std::int64_t K, std::int64_t n, const float* b, std::int64_t ldb, float* packed) {
  const std::int64_t width = tile_columns(), end = (n + lanes() - 1) / lanes() * lanes();
  transpose(n, K, b, ldb, packed, width);
  for (std::int64_t j = n; j < end; ++j)
    for (std::int64_t k = 0; k < K; ++k) packed[k * width + j] = 0;
}

/// Slivers of kTileRows columns of a[K, M]: packed[sliver][k][row], missing rows of the last sliver undefined and never read.
void pack_slivers(std::int64_t K, std::int64_t M, const float* a, std::int64_t lda, float* packed) {
  const std::int64_t whole = M / kTileRows * kTileRows;
  for (std::int64_t k = 0; k < K; ++k, a += lda, packed += kTileRows) {
    for (std::int64_t m = 0; m < whole; m += kTileRows) std::memcpy(packed + m * K, a + m, sizeof(float) * kTileRows);
    for (std::int64_t m = whole; m < M; ++m) packed[whole * K + m - whole] = a[m];
  }
}

/// visit(column, columns) for each column of tiles of a block.
template <class Visit>
void for_tile_columns(std::int64_t columns, const Visit& visit) {
  for (std::int64_t c = 0; c < columns; c += tile_columns()) visit(c, std::min(tile_columns(), columns - c));
}

void pack(std::int64_t depth, std::int64_t columns, const float* b, std::int64_t ldb, bool transposed, float* packed) {
  for_tile_columns(columns, [&](std::int64_t c, std::int64_t n) HWY_ATTR {
    transposed ? pack_transposed(depth, n, b + c * ldb, ldb, packed + c * kDepth) : pack_rows(depth, n, b + c, ldb, packed + c * kDepth);
  });
}

/// kRowBlock rows at most of kPackColumns columns at most, all of K.
void gemm_block(const Gemm& op, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns, cpu::Workspace& space) {
  // For a few rows packing would cost more than the product.
  const bool direct = rows <= kTileRows && !op.transposed && columns % tile_columns() == 0;
  for (std::int64_t k = 0; k == 0 || k < op.K; k += kDepth) {
    const std::int64_t depth = std::min(kDepth, op.K - k);
    const float* b = op.transposed ? op.b + column * op.ldb + k : op.b + k * op.ldb + column;
    if (!direct) pack(depth, columns, b, op.ldb, op.transposed, space.b.data());
    for_tile_columns(columns, [&](std::int64_t c, std::int64_t n) HWY_ATTR {
      float* partial = space.partial.data() + c * cpu::kRowBlock;
      const TileOutput out{.partial_in = k > 0 ? partial : nullptr,
                           .partial_out = k + kDepth < op.K ? partial : nullptr,
                           .c = op.c + row * op.ldc + column + c,
                           .ldc = op.ldc,
                           .columns = n,
                           .scale = op.scale,
                           .bias = op.bias ? op.bias + column + c : nullptr,
                           .add = op.add ? op.add + row * op.ldadd + column + c : nullptr,
                           .ldadd = op.ldadd};
      const float* a = op.a + row * op.lda + k;
      direct ? tile_column<false>(rows, depth, a, op.lda, b + c, op.ldb, out)
             : tile_column<false>(rows, depth, a, op.lda, space.b.data() + c * kDepth, tile_columns(), out);
    });
  }
}

void run_gemm(const Gemm& op) {
  cpu::Workspace& space = cpu::workspace();
  for (std::int64_t m = 0; m < op.M; m += cpu::kRowBlock)
    for (std::int64_t n = 0; n < op.N; n += kPackColumns)
      gemm_block(op, m, std::min(cpu::kRowBlock, op.M - m), n, std::min(kPackColumns, op.N - n), space);
}

void run_gemm_accumulate(const GemmAccumulate& op) {
  cpu::Workspace& space = cpu::workspace();
  for (std::int64_t k = 0; k < op.K; k += kDepth) {
    const std::int64_t depth = std::min(kDepth, op.K - k);
    for (std::int64_t m = 0; m < op.M; m += cpu::kAccumulateRows) {
      const std::int64_t rows = std::min(cpu::kAccumulateRows, op.M - m);
      pack_slivers(depth, rows, op.a + k * op.lda + m, op.lda, space.a.data());
      for (std::int64_t n = 0; n < op.N; n += kPackColumns) {
        const std::int64_t columns = std::min(kPackColumns, op.N - n);
        pack(depth, columns, op.b + k * op.ldb + n, op.ldb, false, space.b.data());
        for_tile_columns(columns, [&](std::int64_t c, std::int64_t width) HWY_ATTR {
          float* tile_of_c = op.c + m * op.ldc + n + c;
          const TileOutput out{.partial_in = nullptr, .partial_out = nullptr, .c = tile_of_c, .ldc = op.ldc, .columns = width,
                               .scale = op.scale, .bias = nullptr, .add = tile_of_c, .ldadd = op.ldc};
          tile_column<true>(rows, depth, space.a.data(), kTileRows, space.b.data() + c * kDepth, tile_columns(), out);
        });
      }
    }
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
