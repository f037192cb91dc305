#include <algorithm>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cpu/gemm.hpp"
#include "kernels/cpu/gemm_bf16.hpp"
#include "kernels/cpu/identity.hpp"
#include "kernels/cpu/reduce.hpp"

namespace elastiform {
namespace {

const float* pointer(ConstView view) { return view.empty() ? nullptr : view.row<float>(0); }

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Tiles of dw: large ones read x and dy less often, but every worker should get some. A tile's place and size do not change its bits.
struct Tiles {
  std::int64_t rows, columns, across, count;

  Tiles(std::int64_t M, std::int64_t N, int workers) {
    rows = std::clamp<std::int64_t>(M, 1, 384);
    columns = 384;
    while (workers > 1 && rows > 48 && ceil_div(M, rows) * ceil_div(N, columns) < 2 * workers) rows = ceil_div(rows / 2, 8) * 8;
    across = ceil_div(N, columns);
    count = ceil_div(M, rows) * across;
  }
};

}  // namespace

CpuBackend::CpuBackend(const ThreadPool& pool, Precision precision) : pool_(pool), precision_(precision) {
  choose_isa();
  require_precision(precision, "precision bf16");
}
CpuBackend::~CpuBackend() = default;

std::int64_t CpuBackend::workspace_bytes(std::int64_t rows, std::int64_t columns) const {
  constexpr std::int64_t kThread = 2 << 20;  // workspace() of the products, and attention's scratch up to a head_dim of 448
  const std::int64_t accumulate = precision_ == Precision::bf16 ? cpu::AccumulateBf16::most_bytes(rows, columns) : 0;
  return pool_.size() * kThread + packed_weight_bytes(precision_, rows, columns) + accumulate;
}

void CpuBackend::do_matmul(const Matmul& op) {
  if (precision_ == Precision::bf16)
    return cpu::gemm_bf16({.c = op.y,
                           .a = op.x,
                           .b = op.w,
                           .bias = op.bias,
                           .add = op.add,
                           .transposed = op.transposed,
                           .scale = static_cast<float>(op.scale)},
                          packs_);
  cpu::gemm({.c = op.y.row<float>(0),
             .ldc = op.y.ld,
             .M = op.y.rows,
             .N = op.y.columns,
             .K = op.x.columns,
             .a = pointer(op.x),
             .lda = op.x.ld,
             .b = pointer(op.w),
             .ldb = op.w.ld,
             .transposed = op.transposed,
             .scale = static_cast<float>(op.scale),
             .bias = pointer(op.bias),
             .add = pointer(op.add),
             .ldadd = op.add.ld});
}

void CpuBackend::do_matmul_dx(const MatmulDx& op) {
  if (precision_ == Precision::bf16)
    return cpu::gemm_bf16(
        {.c = op.dx, .a = op.dy, .b = op.w, .bias = {}, .add = op.add, .transposed = !op.transposed, .scale = static_cast<float>(op.scale)},
        packs_);
  cpu::gemm({.c = op.dx.row<float>(0),
             .ldc = op.dx.ld,
             .M = op.dx.rows,
             .N = op.dx.columns,
             .K = op.dy.columns,
             .a = pointer(op.dy),
             .lda = op.dy.ld,
             .b = pointer(op.w),
             .ldb = op.w.ld,
             .transposed = !op.transposed,
             .scale = static_cast<float>(op.scale),
             .bias = nullptr,
             .add = pointer(op.add),
             .ldadd = op.add.ld});
}

void CpuBackend::do_matmul_dw(const MatmulDw& op) {
  const ConstView left = op.transposed ? op.dy : op.x, right = op.transposed ? op.x : op.dy;
  const std::int64_t M = op.dw.rows, N = op.dw.columns;
  const Tiles tiles(M, N, pool_.size());
  constexpr std::int64_t kBiasColumns = 64;
  const std::int64_t bias_blocks = op.dbias.empty() ? 0 : ceil_div(op.dbias.columns, kBiasColumns);
  const auto scale = static_cast<float>(op.scale);
  const bool bf16 = precision_ == Precision::bf16;
  if (bf16) {
    for (std::int64_t k = 0; k == 0 || k < left.rows; k += cpu::AccumulateBf16::kMaxDepth) {
      const std::int64_t depth = std::min(cpu::AccumulateBf16::kMaxDepth, left.rows - k);
      accumulate_.begin(
          {.c = op.dw, .a = left.row_range(k, depth), .b = right.row_range(k, depth), .scale = scale, .accumulate = k > 0 || op.accumulate},
          tiles.rows);
      pool_.for_each(tiles.count, [&](std::int64_t task) {
        const std::int64_t m = task / tiles.across * tiles.rows, n = task % tiles.across * tiles.columns;
        accumulate_.tile(m, std::min(tiles.rows, M - m), n, std::min(tiles.columns, N - n));
      });
    }
  }
  const std::int64_t products = bf16 ? 0 : tiles.count;
  pool_.for_each(products + bias_blocks, [&](std::int64_t task) {
    if (task < products) {
      const std::int64_t m = task / tiles.across * tiles.rows, n = task % tiles.across * tiles.columns;
      const std::int64_t rows = std::min(tiles.rows, M - m), columns = std::min(tiles.columns, N - n);
      return cpu::gemm_accumulate({.c = op.dw.row<float>(m) + n,
                                   .ldc = op.dw.ld,
                                   .M = rows,
                                   .N = columns,
                                   .K = left.rows,
                                   .a = pointer(left) + m,
                                   .lda = left.ld,
                                   .b = pointer(right) + n,
                                   .ldb = right.ld,
                                   .scale = scale,
                                   .accumulate = op.accumulate});
    }
    const std::int64_t first = (task - products) * kBiasColumns;
    cpu::add_row_sums({.sum = op.dbias.row<float>(0) + first,
                       .x = op.dy.column_range(first, std::min(kBiasColumns, op.dbias.columns - first)),
                       .chunk = kRowChunk,
                       .scale = scale,
                       .accumulate = op.accumulate});
  });
}

}  // namespace elastiform
