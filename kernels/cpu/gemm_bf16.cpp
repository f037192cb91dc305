#include "kernels/cpu/gemm_bf16.hpp"

#include <algorithm>
#include <array>

#include "kernels/cpu/bf16.hpp"

namespace elastiform::cpu {
namespace {

constexpr std::int64_t kDepth = 512;        // of K at a time
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

/// A block of B in memory: `depth` of K from k on, some columns from n on; nothing where none is left.
struct Operand {
  const float* b;
  std::int64_t ld;
  bool transposed;

  const float* at(std::int64_t k, std::int64_t n) const { return transposed ? b + n * ld + k : b + k * ld + n; }
  void pack(std::int64_t k, std::int64_t depth, std::int64_t n, std::int64_t columns, std::uint32_t* packed) const {
    pack_bf16({.n = columns, .K = depth, .x = at(k, n), .ld = ld, .k_first = !transposed}, packed);
  }
  Bf16Next next(std::int64_t k, std::int64_t depth, std::int64_t n, std::int64_t end) const {
    if (n >= end) return {};
    const std::int64_t columns = bf16_columns(end - n);
    return {.x = at(k, n), .ld = ld, .rows = transposed ? columns : depth, .columns = transposed ? depth : columns};
  }
};

/// A block of c, all of K: at most kRowBlock rows, and kColumnBlock columns if K is more than kDepth. Sums of all but the last block of K stay in the workspace, as c may be add.
void gemm_block(const Gemm& op, std::int64_t m, std::int64_t rows, std::int64_t column, std::int64_t width, Workspace& space) {
  const Operand b{op.b, op.ldb, op.transposed};
  for (std::int64_t k = 0; k == 0 || k < op.K; k += kDepth) {
    const std::int64_t depth = std::min(kDepth, op.K - k);
    const bool last = k + kDepth >= op.K;
    pack_bf16({.n = rows, .K = depth, .x = op.a + m * op.lda + k, .ld = op.lda, .side = Bf16Side::a}, space.a.data());
    for (std::int64_t n = column, columns = 0; n < column + width; n += columns) {
      columns = bf16_columns(column + width - n);
      b.pack(k, depth, n, columns, space.b.data());
      float* partial = space.partial.data() + n - column;
      Bf16Product product{.c = partial, .ldc = kColumnBlock, .M = rows, .N = columns, .K = depth, .a = space.a.data(), .b = space.b.data()};
      product.before = k > 0 ? partial : nullptr;
      product.ldbefore = kColumnBlock;
      product.next = b.next(k, depth, n + columns, column + width);
      if (last) {
        product.c = op.c + m * op.ldc + n;
        product.ldc = op.ldc;
        product.bias = op.bias ? op.bias + n : nullptr;
        product.scale = op.scale;
        product.add = op.add ? op.add + m * op.ldadd + n : nullptr;
        product.ldadd = op.ldadd;
      }
      multiply_bf16(product);
    }
  }
}

}  // namespace

void gemm_bf16(const Gemm& op) {
  Workspace& space = workspace();
  const std::int64_t width = op.K <= kDepth ? std::max<std::int64_t>(op.N, 1) : kColumnBlock;  // one block of K leaves no sums between
  for (std::int64_t m = 0; m < op.M; m += kRowBlock)
    for (std::int64_t n = 0; n < op.N; n += width) gemm_block(op, m, std::min(kRowBlock, op.M - m), n, std::min(width, op.N - n), space);
}

void gemm_accumulate_bf16(const GemmAccumulate& op) {
  Workspace& space = workspace();
  const Operand b{op.b, op.ldb, false};
  for (std::int64_t m = 0; m < op.M; m += kRowBlock)
    for (std::int64_t k = 0; k < op.K; k += kDepth) {
      const std::int64_t rows = std::min(kRowBlock, op.M - m), depth = std::min(kDepth, op.K - k);
      pack_bf16({.n = rows, .K = depth, .x = op.a + k * op.lda + m, .ld = op.lda, .k_first = true, .side = Bf16Side::a}, space.a.data());
      for (std::int64_t n = 0, columns = 0; n < op.N; n += columns) {
        columns = bf16_columns(op.N - n);
        b.pack(k, depth, n, columns, space.b.data());
        float* c = op.c + m * op.ldc + n;
        multiply_bf16({.c = c,
                       .ldc = op.ldc,
                       .M = rows,
                       .N = columns,
                       .K = depth,
                       .a = space.a.data(),
                       .b = space.b.data(),
                       .scale = op.scale,
                       .add = c,
                       .ldadd = op.ldc,
                       .next = b.next(k, depth, n + columns, op.N)});
      }
    }
}

}  // namespace elastiform::cpu
