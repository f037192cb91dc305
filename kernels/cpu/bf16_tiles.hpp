#pragma once

#include "kernels/cpu/bf16.hpp"

namespace elastiform::cpu {

/// Whether the processor and the system's kernel have AMX; asks for the tile registers once.
bool cpu_offers_bf16_tiles();

/// Whether products of bf16 run on it: not where ELASTIFORM_ISA names a set without +AMX.
bool has_bf16_tiles();
/// For tests, which compare both ways, between products.
void allow_bf16_tiles(bool allowed);

/// multiply_bf16 on tiles; scratch is the calling thread's.
void multiply_bf16_tiles(const Bf16Product& op);

/// Independent products of tiles; returns their FLOPs.
double bf16_tiles_loop(long repeats, float* sink);

/// The mask of the first n of 16 lanes; n may be more, or less than 0.
constexpr std::uint16_t first_lanes(std::int64_t n) { return static_cast<std::uint16_t>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1); }

/// Asks for one line after the other of a matrix.
class Bf16Fetch {
 public:
  explicit Bf16Fetch(const Bf16Next& next)
      : row_(next.data), row_bytes_(next.ld * bytes_of(next.dtype)), rows_(next.empty() ? 0 : next.rows),
        line_bytes_(next.columns * bytes_of(next.dtype)) {}
  std::int64_t lines() const { return rows_ * ((line_bytes_ + 63) / 64); }
  void line() {
    if (rows_ == 0) return;
    __builtin_prefetch(row_ + at_, 0, 2);
    at_ += 64;
    if (at_ < line_bytes_) return;
    at_ = 0;
    row_ += row_bytes_;
    --rows_;
  }

 private:
  const std::byte* row_;
  std::int64_t row_bytes_, rows_, line_bytes_, at_ = 0;
};

}  // namespace elastiform::cpu
