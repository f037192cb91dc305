#include "kernels/cpu/gemm.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>

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
constexpr std::int64_t kPackedRows = 8;   // of a transposed A that lie together: those of a tile of AVX-512

/// Packed operands and partial sums of one thread. Used within one serial call only, so no wait ever sees it half used.
struct alignas(64) Workspace {
  std::array<float, kDepth * GemmAccumulate::kMaxRows> a;
  std::array<float, kDepth * kMaxColumns> b;
  std::array<float, kRowBlock * kMaxColumns> partial;
};
inline Workspace& workspace() {
  thread_local Workspace buffers;
  return buffers;
}

/// Lines of a matrix that are read soon, asked for a few at a time while something else is computed. A tile of B that is first asked for
/// eight rows ahead arrives too late from beyond L2, and many at once block a core, which waits for 16 lines at most.
class Upcoming {
 public:
  Upcoming() = default;
  /// All of them in `steps` calls of ask(), or as many as kMost a call are.
  Upcoming(const float* x, std::int64_t ld, std::int64_t rows, std::int64_t columns, std::int64_t steps)
      : row_(x), ld_(ld), rows_(columns > 0 ? rows : 0), columns_(columns) {
    const std::int64_t lines = rows * ((columns + kLine - 1) / kLine);
    a_step_ = std::min(kMost, (lines + steps) / std::max<std::int64_t>(steps, 1));
  }
  HWY_INLINE void ask() {
    for (std::int64_t i = 0; i < a_step_ && rows_ > 0; ++i) {
      hwy::Prefetch(row_ + column_);
      column_ += kLine;
      if (column_ < columns_) continue;
      column_ = 0, row_ += ld_, --rows_;
    }
  }

 private:
  static constexpr std::int64_t kLine = 16, kMost = 6;
  const float* row_ = nullptr;
  std::int64_t ld_ = 0, rows_ = 0, columns_ = 0, column_ = 0, a_step_ = 0;
};

}  // namespace elastiform::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
using cpu::Gemm;
using cpu::GemmAccumulate;
using cpu::kDepth;
using cpu::kPackedRows;
using cpu::kRowBlock;
using cpu::Upcoming;

/// Where the sums of a tile go: into `partial` while more blocks of K follow, else through the epilogue into c. Meanwhile the operands that
/// follow, `next`, are asked for.
struct TileOutput {
  const float* partial_in;  // null for the first block of K
  float* partial_out;       // null for the last one
  float* c;
  std::int64_t ldc, columns;
  float scale;
  const float* bias;
  const float* add;
  std::int64_t ldadd;
  Upcoming* next_a;
  Upcoming* next_b;
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

/// Lines of c, and of what is added to it, arrive while the product is computed instead of when it is stored: some rows a step.
template <int kRows, int kVectors>
HWY_INLINE void ask_for_output(const TileOutput& out, std::int64_t step, std::int64_t steps) {
  if (out.partial_out) return;
  const std::int64_t rows = (kRows + steps - 1) / steps;
  for (std::int64_t r = step * rows; r < std::min<std::int64_t>(kRows, (step + 1) * rows); ++r)
    for (int v = 0; v < kVectors; ++v) {
      hwy::Prefetch(out.c + r * out.ldc + v * lanes());
      if (out.add && out.add != out.c) hwy::Prefetch(out.add + r * out.ldadd + v * lanes());
    }
}

template <int kRows, int kVectors, bool kTransposed>
HWY_NOINLINE void tile(std::int64_t K, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, const TileOutput& out) {
  FloatVector sums[kRows][kVectors];
  const std::int64_t step = lanes();
  multiply_tile<kRows, kVectors, kTransposed>(K, a, lda, b, ldb, sums, [&](std::int64_t i) HWY_ATTR {
    out.next_b->ask();
    if (kTransposed) out.next_a->ask();
    ask_for_output<kRows, kVectors>(out, i, std::max<std::int64_t>(K / kMeanwhile, 1));
  });
  const std::int64_t last = out.columns - (kVectors - 1) * step;  // columns in the last vector
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      if (v + 1 < kVectors || last == step) write_vector(out, sums[r][v], r, v * step, Whole{});
      else write_vector(out, sums[r][v], r, v * step, Partial{last});
    }
}

/// Where row m of a transposed A begins when it is packed: kPackedRows rows together, k after k.
HWY_INLINE std::int64_t packed_row(std::int64_t m, std::int64_t depth) { return m / kPackedRows * kPackedRows * depth + m % kPackedRows; }

void pack_rows(std::int64_t depth, std::int64_t M, const float* a, std::int64_t lda, float* packed) {
  const hn::CappedTag<float, kPackedRows> d;
  const std::int64_t whole = M / kPackedRows * kPackedRows;
  for (std::int64_t k = 0; k < depth; ++k, a += lda) {
    for (std::int64_t m = 0; m < whole; m += static_cast<std::int64_t>(hn::Lanes(d)))
      hn::StoreU(hn::LoadU(d, a + m), d, packed + packed_row(m, depth) + k * kPackedRows);
    for (std::int64_t m = whole; m < M; ++m) packed[packed_row(m, depth) + k * kPackedRows] = a[m];
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

/// Rows `first` to `rows` of a column of tiles; what is left below the last full tile by halves, as the bits do not depend on it. A
/// transposed A is packed.
template <int kRows, int kVectors, bool kTransposed>
void tile_rows(std::int64_t first, std::int64_t rows, std::int64_t K, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
               const TileOutput& out) {
  for (; first + kRows <= rows; first += kRows) {
    const std::int64_t offset = kTransposed ? packed_row(first, K) : first * lda;
    tile<kRows, kVectors, kTransposed>(K, a + offset, lda, b, ldb, below(out, first));
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

/// visit(column, columns) for each column of tiles. Four vectors are cut into 2 + 2.
template <class Visit>
HWY_INLINE void for_tile_columns(std::int64_t N, const Visit& visit) {
  for (std::int64_t n = 0, columns = 0; n < N; n += columns) {
    const std::int64_t left = N - n;
    columns = left > tile_columns() && left <= 4 * lanes() ? 2 * lanes() : std::min(tile_columns(), left);
    visit(n, columns);
  }
}

/// The number of a column of tiles in a block of K. They begin at multiples of a tile's columns, but for the last one.
std::int64_t piece_of(std::int64_t N, std::int64_t k, std::int64_t column) {
  const auto tiles = [](std::int64_t columns) { return (columns + tile_columns() - 1) / tile_columns(); };
  return k / kDepth * (tiles(N) + 1) + tiles(column);
}

/// The operand B of one column of tiles, or what is read of the next one.
struct Columns {
  const float* b;
  std::int64_t ldb;
};

/// Where it lies if its rows are whole vectors (packing would cost 3 % with 256 rows of A, 11 % with 64), else packed: a transposed one in
/// what the workers share, if they do.
Columns columns_of(const Gemm& op, std::int64_t k, std::int64_t depth, std::int64_t column, std::int64_t columns, float* own) {
  const float* source = op.transposed ? op.b + column * op.ldb + k : op.b + k * op.ldb + column;
  if (!op.transposed && columns % lanes() == 0) return {source, op.ldb};
  const auto pack_into = [&](float* packed) HWY_ATTR { pack(depth, columns, source, op.ldb, op.transposed, packed); };
  if (op.transposed && op.pack) return {op.pack->piece(piece_of(op.N, k, column), own, pack_into), tile_columns()};
  pack_into(own);
  return {own, tile_columns()};
}

/// The columns of B that are read next, in `steps` steps.
Upcoming upcoming_columns(const Gemm& op, std::int64_t k, std::int64_t column, std::int64_t steps) {
  const std::int64_t depth = std::min(kDepth, op.K - k), columns = std::min(tile_columns(), op.N - column);
  if (columns <= 0) return {};
  if (!op.transposed) return {op.b + k * op.ldb + column, op.ldb, depth, columns, steps};
  if (op.pack) {
    if (const float* packed = op.pack->ready<float>(piece_of(op.N, k, column))) return {packed, tile_columns(), depth, columns, steps};
  }
  return {op.b + column * op.ldb + k, op.ldb, columns, depth, steps};
}

std::int64_t steps_of(std::int64_t rows, std::int64_t depth) { return (rows + kTileRows - 1) / kTileRows * (depth / kMeanwhile); }

/// kRowBlock rows at most of one column of tiles, all of K.
void gemm_column(const Gemm& op, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns, cpu::Workspace& space) {
  for (std::int64_t k = 0; k == 0 || k < op.K; k += kDepth) {
    const std::int64_t depth = std::min(kDepth, op.K - k);
    const Columns b = columns_of(op, k, depth, column, columns, space.b.data());
    const bool last = k + kDepth >= op.K;
    Upcoming next = upcoming_columns(op, last ? 0 : k + kDepth, last ? column + columns : column, steps_of(rows, depth));
    const TileOutput out{.partial_in = k > 0 ? space.partial.data() : nullptr,
                         .partial_out = last ? nullptr : space.partial.data(),
                         .c = op.c + row * op.ldc + column,
                         .ldc = op.ldc,
                         .columns = columns,
                         .scale = op.scale,
                         .bias = op.bias ? op.bias + column : nullptr,
                         .add = op.add ? op.add + row * op.ldadd + column : nullptr,
                         .ldadd = op.ldadd,
                         .next_a = nullptr,
                         .next_b = &next};
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
  // B as the operand of a product: rows of K, columns of N.
  const Gemm product{.N = op.N, .K = op.K, .b = op.b, .ldb = op.ldb};
  for (std::int64_t k = 0; k == 0 || k < op.K; k += kDepth) {
    const std::int64_t depth = std::min(kDepth, op.K - k), steps = steps_of(op.M, depth), after = k + kDepth;
    pack_rows(depth, op.M, op.a + k * op.lda, op.lda, space.a.data());
    Upcoming next_a;
    if (after < op.K)
      next_a = {op.a + after * op.lda, op.lda, std::min(kDepth, op.K - after), op.M,
                steps * ((op.N + tile_columns() - 1) / tile_columns())};
    for_tile_columns(op.N, [&](std::int64_t n, std::int64_t columns) HWY_ATTR {
      const Columns b = columns_of(product, k, depth, n, columns, space.b.data());
      Upcoming next_b = n + columns < op.N ? upcoming_columns(product, k, n + columns, steps)
                        : after < op.K     ? upcoming_columns(product, after, 0, steps)
                                           : Upcoming();
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
                           .next_a = &next_a,
                           .next_b = &next_b};
      tile_column<true>(op.M, depth, space.a.data(), kPackedRows, b.b, b.ldb, out);
    });
  }
}

/// Pieces of a transposed B that workers share: columns of tiles of all blocks of K. The last of N may be two columns of two vectors.
std::int64_t count_pieces(std::int64_t N, std::int64_t K) { return piece_of(N, std::max<std::int64_t>(K - 1, 0), N) + 1; }
std::int64_t piece_floats(std::int64_t K) { return std::min(K, kDepth) * tile_columns(); }

}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(run_gemm);
HWY_EXPORT(run_gemm_accumulate);
HWY_EXPORT(count_pieces);
HWY_EXPORT(piece_floats);

namespace cpu {

void gemm(const Gemm& op) { HWY_DYNAMIC_DISPATCH(run_gemm)(op); }
void gemm_accumulate(const GemmAccumulate& op) {
  if (op.M > GemmAccumulate::kMaxRows) throw std::logic_error("gemm_accumulate: more rows than its workspace packs");
  HWY_DYNAMIC_DISPATCH(run_gemm_accumulate)(op);
}

SharedPack* gemm_pack(SharedPacks& packs, ConstView b, bool transposed) {
  if (!transposed) return nullptr;
  const std::int64_t pieces = HWY_DYNAMIC_DISPATCH(count_pieces)(b.rows, b.columns);
  return packs.of(b, true, pieces, HWY_DYNAMIC_DISPATCH(piece_floats)(b.columns), SharedPack::kMostFloatBytes);
}

std::int64_t gemm_pack_bytes(std::int64_t rows, std::int64_t columns) {
  const std::int64_t depth = columns > kDepth ? (columns + kDepth - 1) / kDepth * kDepth : columns;
  return std::min(SharedPack::kMostFloatBytes, 4 * depth * (rows + 2 * kMaxColumns));
}

}  // namespace cpu
}  // namespace elastiform
#endif
