#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/arena.hpp"
#include "kernels/cpu/cpu_backend.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kChunkRows = 1024;  // of x and dy that matmul_dw rounds at a time

/// By their bits magnitudes are ordered as whole numbers, NaN above infinity.
float largest_magnitude(ConstView x) {
  std::uint32_t largest = 0;
  for (std::int64_t n = 0; n < x.rows; ++n) {
    const float* row = x.row<float>(n);
    for (std::int64_t c = 0; c < x.columns; ++c) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, row + c, sizeof bits);
      largest = std::max(largest, bits & 0x7fffffffU);
    }
  }
  constexpr std::uint32_t kInfinity = 0x7f800000;
  if (largest >= kInfinity) return std::numeric_limits<float>::infinity();
  float magnitude = 0;
  std::memcpy(&magnitude, &largest, sizeof magnitude);
  return magnitude;
}

std::int64_t float_bytes(std::int64_t rows, std::int64_t columns) { return rows * padded_ld(rows, columns) * bytes_of(DType::float32); }

}  // namespace

View CpuBackend::RoundedOperand::of(std::int64_t rows, std::int64_t columns) {
  const std::int64_t wanted = float_bytes(rows, columns);
  if (wanted > bytes) memory = allocate_block(bytes = wanted);
  return {memory.get(), rows, columns, padded_ld(rows, columns), DType::float32};
}

void CpuBackend::round_operands(OperandRounding* rounding) {
  rounding_ = rounding;
  rounded_.resize(static_cast<std::size_t>(rounding ? pool_.size() : 0));
}

std::int64_t CpuBackend::rounding_workspace_bytes(std::int64_t rows, std::int64_t columns) const {
  const std::int64_t widest = std::max(rows, columns);
  return pool_.size() * float_bytes(kPanelRows, widest) + float_bytes(kChunkRows, rows) + float_bytes(kChunkRows, columns);
}

void CpuBackend::round_operand(View to, ConstView from, const std::byte* weight, OperandSide side) {
  OperandRounding::Rule rule = rounding_->rule(weight, side);
  if (rule.measures) {
    const float largest = largest_magnitude(from);
    rounding_->saw(weight, side, largest);
    if (!std::isfinite(largest)) rule.saturates = false;  // a divergence stays one
  }
  round({.y = to, .x = from, .format = rule.format, .scale = rule.scale, .saturates = rule.saturates, .noise = {}});
}

ConstView CpuBackend::rounded_operand(ConstView x, ConstView weight, OperandSide side) {
  if (!rounding_ || !rounding_->rule(weight.data, side).rounds) return x;
  const View to = rounded_[static_cast<std::size_t>(slot())].of(x.rows, x.columns);
  round_operand(to, x, weight.data, side);
  return to;
}

bool CpuBackend::rounds(const MatmulDw& op) const { return rounding_ && rounding_->rule(op.dw.data, OperandSide::activation).rounds; }

void CpuBackend::rounded_matmul_dw(const MatmulDw& op) {
  for (std::int64_t first = 0; first < op.x.rows; first += kChunkRows) {
    const std::int64_t rows = std::min(kChunkRows, op.x.rows - first);
    const ConstView x = op.x.row_range(first, rows), dy = op.dy.row_range(first, rows);
    const View rounded_x = rounded_x_.of(rows, x.columns), rounded_dy = rounded_dy_.of(rows, dy.columns);
    panels(rows, [&](Rows r) {
      round_operand(rounded_x[r], x[r], op.dw.data, OperandSide::activation);
      round_operand(rounded_dy[r], dy[r], op.dw.data, OperandSide::gradient);
    });
    MatmulDw part = op;
    part.x = rounded_x, part.dy = rounded_dy, part.accumulate = first > 0 || op.accumulate;
    accumulate_dw(part);
  }
}

}  // namespace elastiform
