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

struct Tile {
  std::int64_t row, rows, column, columns;
};

/// Tiles of dw: large ones read x and dy less often, but every worker should get some. A tile's place and size do not change its bits.
struct Tiles {
  std::int64_t M, N, rows, columns = 384, across, count;

  Tiles(std::int64_t M_, std::int64_t N_, int workers)
      : M(M_), N(N_), rows(std::clamp<std::int64_t>(M_, 1, cpu::GemmAccumulate::kMaxRows)) {
    while (workers > 1 && rows > 48 && ceil_div(M, rows) * ceil_div(N, columns) < 2 * workers) rows = ceil_div(rows / 2, 8) * 8;
    across = ceil_div(N, columns);
    count = ceil_div(M, rows) * across;
  }
  Tile at(std::int64_t i) const {
    const std::int64_t row = i / across * rows, column = i % across * columns;
    return {row, std::min(rows, M - row), column, std::min(columns, N - column)};
  }
};

}  // namespace

CpuBackend::CpuBackend(const ThreadPool& pool, Precision precision) : pool_(pool), precision_(precision) {
  choose_isa();
  require_precision(precision, "precision bf16");
}
CpuBackend::~CpuBackend() = default;

std::int64_t CpuBackend::workspace_bytes(std::int64_t rows, std::int64_t columns, bool in_panels) const {
  constexpr std::int64_t kThread = 2 << 20;  // workspace() of the products, and attention's scratch up to a head_dim of 448
  const std::int64_t accumulate = precision_ == Precision::bf16 ? cpu::AccumulateBf16::most_bytes(rows, columns) : 0;
  return pool_.size() * kThread + (in_panels ? packed_weight_bytes(precision_, rows, columns) : 0) + accumulate;
}

std::int64_t CpuBackend::packed_weight_bytes(Precision precision, std::int64_t rows, std::int64_t columns) {
  const bool bf16 = precision == Precision::bf16;
  return cpu::SharedPacks::most_bytes(bf16 ? cpu::bf16_pack_bytes(rows, columns)
                                           : std::max(cpu::gemm_pack_bytes(rows, columns), cpu::gemm_pack_bytes(columns, rows)));
}

std::int64_t CpuBackend::packed_table_bytes(Precision precision, std::int64_t rows, std::int64_t columns) {
  return precision == Precision::bf16 ? cpu::bf16_pack_bytes(rows, columns) : cpu::gemm_pack_bytes(rows, columns);
}

void CpuBackend::multiply(const cpu::Product& op) {
  if (precision_ == Precision::bf16) return cpu::gemm_bf16(op, packs_);
  cpu::gemm({.c = op.c.row<float>(0),
             .ldc = op.c.ld,
             .M = op.c.rows,
             .N = op.c.columns,
             .K = op.a.columns,
             .a = pointer(op.a),
             .lda = op.a.ld,
             .b = pointer(op.b),
             .ldb = op.b.ld,
             .transposed = op.transposed,
             .scale = op.scale,
             .bias = pointer(op.bias),
             .add = pointer(op.add),
             .ldadd = op.add.ld,
             .pack = cpu::gemm_pack(packs_, op.b, op.transposed)});
}

void CpuBackend::do_matmul(const Matmul& op) {
  const ConstView x = rounded_operand(op.x, op.w, OperandSide::activation);
  multiply({op.y, x, op.w, op.bias, op.add, op.transposed, static_cast<float>(op.scale)});
}

void CpuBackend::do_matmul_dx(const MatmulDx& op) {
  const ConstView dy = rounded_operand(op.dy, op.w, OperandSide::gradient);
  multiply({op.dx, dy, op.w, {}, op.add, !op.transposed, static_cast<float>(op.scale)});
}

/// In bf16 the workers share what they pack, some rows of x and dy at a time.
void CpuBackend::accumulate_bf16(const cpu::Accumulation& op) {
  const Tiles tiles(op.c.rows, op.c.columns, pool_.size());
  for (std::int64_t k = 0; k == 0 || k < op.a.rows; k += cpu::AccumulateBf16::kMaxDepth) {
    const std::int64_t depth = std::min(cpu::AccumulateBf16::kMaxDepth, op.a.rows - k);
    accumulate_.begin({op.c, op.a.row_range(k, depth), op.b.row_range(k, depth), op.scale, k > 0 || op.accumulate}, tiles.rows);
    pool_.for_each(tiles.count, [&](std::int64_t task) {
      const Tile t = tiles.at(task);
      accumulate_.tile(t.row, t.rows, t.column, t.columns);
    });
  }
}

void CpuBackend::do_matmul_dw(const MatmulDw& op) { rounds(op) ? rounded_matmul_dw(op) : accumulate_dw(op); }

void CpuBackend::accumulate_dw(const MatmulDw& op) {
  const ConstView left = op.transposed ? op.dy : op.x, right = op.transposed ? op.x : op.dy;
  const auto scale = static_cast<float>(op.scale);
  const bool learns = !op.dw.empty(), bf16 = precision_ == Precision::bf16;
  if (learns && bf16) accumulate_bf16({op.dw, left, right, scale, op.accumulate});
  const Tiles tiles(op.dw.rows, op.dw.columns, pool_.size());
  const std::int64_t products = learns && !bf16 ? tiles.count : 0;
  constexpr std::int64_t kBiasColumns = 64;
  const std::int64_t bias_blocks = op.dbias.empty() ? 0 : ceil_div(op.dbias.columns, kBiasColumns);
  pool_.for_each(products + bias_blocks, [&](std::int64_t task) {
    if (task < products) {
      const Tile t = tiles.at(task);
      return cpu::gemm_accumulate({.c = op.dw.row<float>(t.row) + t.column,
                                   .ldc = op.dw.ld,
                                   .M = t.rows,
                                   .N = t.columns,
                                   .K = left.rows,
                                   .a = pointer(left) + t.row,
                                   .lda = left.ld,
                                   .b = pointer(right) + t.column,
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
