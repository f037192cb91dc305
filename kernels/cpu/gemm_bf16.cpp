#include "kernels/cpu/gemm_bf16.hpp"

#include <algorithm>
#include <array>

#include "kernels/cpu/bf16.hpp"

namespace elastiform::cpu {
namespace {

constexpr std::int64_t kDepth = 512;        // of K at a time
constexpr std::int64_t kRowBlock = 384;     // rows of A that share one packing of B: 384 KiB, in L2
constexpr std::int64_t kColumnBlock = 384;  // columns of B that share one packing of A

/// Packed operands and sums of one thread, 1 MiB. Used within one serial call only, so no wait ever sees it half used.
struct alignas(64) Workspace {
  std::array<std::uint32_t, bf16_words(kRowBlock, kDepth)> a;
  std::array<std::uint32_t, bf16_words(kBf16TileColumns, kDepth)> b;
  std::array<float, kRowBlock * kColumnBlock> partial;
};
Workspace& workspace() {
  thread_local Workspace buffers;
  return buffers;
}

/// visit(column, columns) for each column of tiles. Four panels are cut into 2 + 2.
template <class Visit>
void for_tile_columns(std::int64_t N, const Visit& visit) {
  for (std::int64_t n = 0, columns = 0; n < N; n += columns) {
    const std::int64_t left = N - n;
    columns = left > kBf16TileColumns && left <= 4 * kBf16Panel ? 2 * kBf16Panel : std::min(kBf16TileColumns, left);
    visit(n, columns);
  }
}

/// A block of c: at most kRowBlock x kColumnBlock, all of K. Sums of all but the last block of K stay in the workspace, as c may be add.
void gemm_block(const Gemm& op, std::int64_t m, std::int64_t rows, std::int64_t column, std::int64_t width, Workspace& space) {
  for (std::int64_t k = 0; k == 0 || k < op.K; k += kDepth) {
    const std::int64_t depth = std::min(kDepth, op.K - k);
    const bool last = k + kDepth >= op.K;
    pack_bf16({.n = rows, .K = depth, .x = op.a + m * op.lda + k, .ld = op.lda}, space.a.data());
    for_tile_columns(width, [&](std::int64_t inside, std::int64_t columns) {
      const std::int64_t n = column + inside;
      const float* b = op.transposed ? op.b + n * op.ldb + k : op.b + k * op.ldb + n;
      pack_bf16({.n = columns, .K = depth, .x = b, .ld = op.ldb, .k_first = !op.transposed}, space.b.data());
      float* partial = space.partial.data() + inside;
      Bf16Product product{.c = partial, .ldc = kColumnBlock, .M = rows, .N = columns, .K = depth, .a = space.a.data(), .b = space.b.data()};
      product.before = k > 0 ? partial : nullptr;
      product.ldbefore = kColumnBlock;
      if (last) {
        product.c = op.c + m * op.ldc + n;
        product.ldc = op.ldc;
        product.bias = op.bias ? op.bias + n : nullptr;
        product.scale = op.scale;
        product.add = op.add ? op.add + m * op.ldadd + n : nullptr;
        product.ldadd = op.ldadd;
      }
      multiply_bf16(product);
    });
  }
}

}  // namespace

void gemm_bf16(const Gemm& op) {
  Workspace& space = workspace();
  for (std::int64_t m = 0; m < op.M; m += kRowBlock)
    for (std::int64_t n = 0; n < op.N; n += kColumnBlock)
      gemm_block(op, m, std::min(kRowBlock, op.M - m), n, std::min(kColumnBlock, op.N - n), space);
}

void gemm_accumulate_bf16(const GemmAccumulate& op) {
  Workspace& space = workspace();
  for (std::int64_t m = 0; m < op.M; m += kRowBlock)
    for (std::int64_t k = 0; k < op.K; k += kDepth) {
      const std::int64_t rows = std::min(kRowBlock, op.M - m), depth = std::min(kDepth, op.K - k);
      pack_bf16({.n = rows, .K = depth, .x = op.a + k * op.lda + m, .ld = op.lda, .k_first = true}, space.a.data());
      for_tile_columns(op.N, [&](std::int64_t n, std::int64_t columns) {
        pack_bf16({.n = columns, .K = depth, .x = op.b + k * op.ldb + n, .ld = op.ldb, .k_first = true}, space.b.data());
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
                       .ldadd = op.ldc});
      });
    }
}

}  // namespace elastiform::cpu
