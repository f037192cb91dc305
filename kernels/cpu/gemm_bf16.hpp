#pragma once

#include "kernels/cpu/shared_packs.hpp"
#include "kernels/view.hpp"

namespace elastiform::cpu {

/// c[M,N] = scale · (a[M,K] · B + bias[1,N]) + add[M,N]; B is b[K,N], or b[N,K] transposed. a, b and c in float32 or bfloat16, sums, bias
/// and add in float32; empty bias or add: none; add may be c. The promises of gemm.hpp. Only where has_bf16().
struct Product {
  View c;
  ConstView a, b, bias, add;
  bool transposed = false;
  float scale = 1;
};
/// B is packed into `packs` while these are open, else by each caller.
void gemm_bf16(const Product& op, SharedPacks& packs);
/// At most what a B of rows x columns takes in `packs`, multiplied either way.
std::int64_t bf16_pack_bytes(std::int64_t rows, std::int64_t columns);

/// c[M,N] (accumulate: +)= scale · aᵀ · b with a[K,M] and b[K,N].
struct Accumulation {
  View c;
  ConstView a, b;
  float scale = 1;
  bool accumulate = true;
};

/// Tiles of one such product, for several workers that share what they pack.
class AccumulateBf16 {
 public:
  static constexpr std::int64_t kMaxRows = 384;    // of a tile
  static constexpr std::int64_t kMaxDepth = 1024;  // rows of a and b in one product: packed they take 2 KiB for each row and column of c
  /// Tiles begin at multiples of row_step, at most kMaxRows. Not while workers compute.
  void begin(const Accumulation& op, std::int64_t row_step);
  /// c[row, row + rows) × [column, column + columns), column a multiple of 48 and 64.
  void tile(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns);
  std::int64_t bytes() const { return a_.bytes() + b_.bytes(); }
  /// What it can grow to with c of up to rows x columns, or turned round.
  static std::int64_t most_bytes(std::int64_t rows, std::int64_t columns);

 private:
  Accumulation op_;
  std::int64_t row_step_ = 0;
  bool shares_a_ = false, shares_b_ = false;
  SharedPack a_, b_;
};

}  // namespace elastiform::cpu
