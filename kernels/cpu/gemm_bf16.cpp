#include "kernels/cpu/gemm_bf16.hpp"

#include <algorithm>
#include <array>

#include "kernels/cpu/bf16.hpp"

namespace elastiform::cpu {
namespace {

constexpr std::int64_t kDepth = kBf16BlockDepth;
constexpr std::int64_t kRowBlock = 384;     // rows of A that share one packing of B: 384 KiB, in L2
constexpr std::int64_t kColumnBlock = 384;  // columns of B that share one packing of A: their sums take 576 KiB

/// Packed operands and sums of one thread, 1 MiB. Used within one serial call only, so no wait ever sees it half used.
struct alignas(64) Workspace {
  std::array<std::uint32_t, bf16_words(kRowBlock, kDepth)> a;
  std::array<std::uint32_t, bf16_words(kBf16MaxColumns, kDepth)> b;
  std::array<float, kRowBlock * kColumnBlock> partial;
};
Workspace& workspace() {
  thread_local Workspace buffers;
  return buffers;
}

/// Part of a matrix, [first, first + count) of rows and columns.
template <class V>
V part(V x, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
  return x.row_range(row, rows).column_range(column, columns);
}

/// B, or its transpose: a block of depth `depth` from k on, some columns from n on; nothing where none is left.
struct Operand {
  ConstView b;
  bool transposed;

  ConstView at(std::int64_t k, std::int64_t depth, std::int64_t n, std::int64_t columns) const {
    return transposed ? part(b, n, columns, k, depth) : part(b, k, depth, n, columns);
  }
  void pack(std::int64_t k, std::int64_t depth, std::int64_t n, std::int64_t columns, std::uint32_t* packed) const {
    pack_bf16({.n = columns, .K = depth, .x = at(k, depth, n, columns), .k_first = !transposed}, packed);
  }
};

void write_to(Bf16Product& product, View c) {
  if (c.dtype == DType::bfloat16) product.c16 = c.row<BFloat16>(0);
  else product.c = c.row<float>(0);
  product.ldc = c.ld;
}

/// The packed piece, shared where that is possible.
template <class Pack>
const std::uint32_t* piece_of(SharedPack* shared, std::int64_t piece, std::uint32_t* own, const Pack& pack) {
  if (shared) return shared->piece(piece, own, pack);
  pack(own);
  return own;
}

/// What the product after this one reads: a piece of so many words that is packed, or the matrix that will be.
Bf16Next next_of(const SharedPack* shared, std::int64_t piece, std::int64_t words, ConstView unpacked) {
  const float* packed = shared ? shared->ready<float>(piece) : nullptr;
  return packed ? view_of(packed, 1, words, words) : unpacked;
}

constexpr std::int64_t panels_of(std::int64_t columns) { return (columns + kBf16Panel - 1) / kBf16Panel; }

/// A block of c, all of K: at most kRowBlock rows, and kColumnBlock columns if K is more than kDepth. Sums of all but the last block of K
/// stay in the workspace, as c may be add.
void gemm_block(const Product& op, std::int64_t m, std::int64_t rows, std::int64_t column, std::int64_t width, SharedPack* shared,
                Workspace& space) {
  const Operand b{op.b, op.transposed};
  const std::int64_t K = op.a.columns, panels = panels_of(op.c.columns);
  for (std::int64_t k = 0; k == 0 || k < K; k += kDepth) {
    const std::int64_t depth = std::min(kDepth, K - k);
    const bool last = k + kDepth >= K;
    pack_bf16({.n = rows, .K = depth, .x = part(op.a, m, rows, k, depth), .side = Bf16Side::a}, space.a.data());
    for (std::int64_t n = column, columns = 0; n < column + width; n += columns) {
      columns = bf16_columns(column + width - n);
      const auto pack = [&](std::uint32_t* words) { b.pack(k, depth, n, columns, words); };
      const std::int64_t piece = k / kDepth * panels + n / kBf16Panel;
      float* partial = space.partial.data() + n - column;
      Bf16Product product{.M = rows, .N = columns, .K = depth, .a = space.a.data()};
      product.b = piece_of(shared, piece, space.b.data(), pack);
      product.before = k > 0 ? partial : nullptr;
      product.ldbefore = kColumnBlock;
      if (n + columns < column + width) {
        const std::int64_t more = bf16_columns(column + width - n - columns);
        product.next = next_of(shared, piece + panels_of(columns), bf16_words(more, depth), b.at(k, depth, n + columns, more));
      }
      if (last) {
        write_to(product, part(op.c, m, rows, n, columns));
        product.bias = op.bias.empty() ? nullptr : op.bias.row<float>(0) + n;
        product.scale = op.scale;
        product.add = op.add.empty() ? nullptr : op.add.row<float>(m) + n;
        product.ldadd = op.add.ld;
      } else {
        product.c = partial;
        product.ldc = kColumnBlock;
      }
      multiply_bf16(product);
    }
  }
}

}  // namespace

void gemm_bf16(const Product& op, SharedPacks& packs) {
  Workspace& space = workspace();
  const std::int64_t M = op.c.rows, N = op.c.columns, K = op.a.columns;
  const std::int64_t pieces = std::max<std::int64_t>(1, (K + kDepth - 1) / kDepth) * panels_of(N);
  SharedPack* shared = packs.of(op.b, op.transposed, pieces, bf16_words(kBf16Panel, std::min(K, kDepth)));
  const std::int64_t width = K <= kDepth ? std::max<std::int64_t>(N, 1) : kColumnBlock;  // one block of K leaves no sums between
  for (std::int64_t m = 0; m < M; m += kRowBlock)
    for (std::int64_t n = 0; n < N; n += width) gemm_block(op, m, std::min(kRowBlock, M - m), n, std::min(width, N - n), shared, space);
}

std::int64_t bf16_pack_bytes(std::int64_t rows, std::int64_t columns) {
  const auto up = [](std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; };
  // A product over more than kDepth packs whole blocks of it.
  const auto depth = [&](std::int64_t K) { return up(K, K > kDepth ? kDepth : kBf16Depth); };
  return std::min(SharedPack::kMostBytes, 2 * std::max(depth(rows) * up(columns, kBf16Panel), depth(columns) * up(rows, kBf16Panel)));
}

void AccumulateBf16::begin(const Accumulation& op, std::int64_t row_step) {
  op_ = op;
  row_step_ = row_step;
  const std::int64_t blocks = (op.a.rows + kDepth - 1) / kDepth, depth = std::min(op.a.rows, kDepth);
  const std::int64_t pieces_a = blocks * ((op.c.rows + row_step - 1) / row_step), words_a = bf16_words(row_step, depth);
  const std::int64_t pieces_b = blocks * panels_of(op.c.columns), words_b = bf16_words(kBf16Panel, depth);
  shares_a_ = SharedPack::fits(pieces_a, words_a);
  shares_b_ = SharedPack::fits(pieces_b, words_b);
  if (shares_a_) a_.begin(op.a, false, pieces_a, words_a);
  if (shares_b_) b_.begin(op.b, false, pieces_b, words_b);
}

std::int64_t AccumulateBf16::most_bytes(std::int64_t rows, std::int64_t columns) {
  // Rows of c are packed in whole tiles, so both operands are taken for the longer side and a tile.
  return 2 * std::min(SharedPack::kMostBytes, 2 * kMaxDepth * (std::max(rows, columns) + kMaxRows));
}

void AccumulateBf16::tile(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns_of_tile) {
  Workspace& space = workspace();
  const Operand b{op_.b, false};
  const std::int64_t K = op_.a.rows, end = column + columns_of_tile;
  const std::int64_t row_blocks = (op_.c.rows + row_step_ - 1) / row_step_, panels = panels_of(op_.c.columns);
  for (std::int64_t k = 0; k == 0 || k < K; k += kDepth) {
    const std::int64_t depth = std::min(kDepth, K - k), block = k / kDepth;
    const std::uint32_t* a =
        piece_of(shares_a_ ? &a_ : nullptr, block * row_blocks + row / row_step_, space.a.data(), [&](std::uint32_t* words) {
          pack_bf16({.n = rows, .K = depth, .x = part(op_.a, k, depth, row, rows), .k_first = true, .side = Bf16Side::a}, words);
        });
    for (std::int64_t n = column, columns = 0; n < end; n += columns) {
      columns = bf16_columns(end - n);
      const std::int64_t piece = block * panels + n / kBf16Panel;
      float* c = op_.c.row<float>(row) + n;
      Bf16Product product{.c = c, .ldc = op_.c.ld, .M = rows, .N = columns, .K = depth, .a = a};
      const auto pack = [&](std::uint32_t* words) { b.pack(k, depth, n, columns, words); };
      product.b = piece_of(shares_b_ ? &b_ : nullptr, piece, space.b.data(), pack);
      product.scale = op_.scale;
      product.add = k > 0 || op_.accumulate ? c : nullptr;
      product.ldadd = op_.c.ld;
      if (n + columns < end) {
        const std::int64_t more = bf16_columns(end - n - columns);
        product.next =
            next_of(shares_b_ ? &b_ : nullptr, piece + panels_of(columns), bf16_words(more, depth), b.at(k, depth, n + columns, more));
      }
      multiply_bf16(product);
    }
  }
}

}  // namespace elastiform::cpu
