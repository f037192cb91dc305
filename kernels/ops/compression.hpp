#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <tuple>

#include "kernels/view.hpp"

namespace elastiform {

/// Columns of a row that share one range. The last group of a row is shorter: nothing is padded, so no zero enters its range.
constexpr std::int64_t kCompressedGroup = 256;

constexpr std::int64_t compressed_groups(std::int64_t columns) { return (columns + kCompressedGroup - 1) / kCompressedGroup; }
/// Bytes of a compressed row: of each group its least and its largest element in bfloat16, then all codes, the first in the lowest bits.
constexpr std::int64_t compressed_row_bytes(std::int64_t columns, int bits) {
  return 4 * compressed_groups(columns) + (columns * bits + 7) / 8;
}

/// Names the random bits of a matrix: they depend on nothing else, so neither on threads nor on what ran before. Columns 256g + k + 64w and
/// 256g + k + 64w + 32 (k < 32) of a row get the lower and upper half of word w of Philox({32g + k, row, name}, seed).
struct NoiseName {
  std::uint64_t seed = 0;
  std::array<std::uint32_t, 2> name{};
};

/// codes[N, compressed_row_bytes(F, bits)] of x[N,F], for a backward pass that may read an unbiased estimate of x (ActNN, arXiv 2104.14129).
/// A group has the range [lo, hi], its extremes rounded outwards to bfloat16, and L = 2^bits - 1 steps of s = (hi - lo) / L; the code of x is
/// q = floor((x - lo) · L/(hi - lo) + u) with u uniform in (0, 1), so E[lo + q·s] = x and the variance is at most s²/4. A range of less than
/// 1e-30 has s = 0. A group that holds a NaN or an infinity has the range NaN. Used inside panels; first_row: of the panel.
struct Compress {
  static constexpr const char* kName = "compress";
  static constexpr std::array<std::string_view, 1> kOperands{"x"};
  static constexpr std::array<std::string_view, 1> kCodes{"codes"};
  View codes;
  ConstView x;
  int bits = 8;  // 8, 4 or 2
  NoiseName noise;
  std::int64_t first_row = 0;
  void check() const;
  auto fields() const { return std::tie(codes, x); }
};

/// x[N,F] = lo + q·s of Compress's codes; in bfloat16 that is then rounded to nearest, which leaves E[x] within 2^-9 of the largest
/// magnitude of the group. Used inside panels.
struct Decompress {
  static constexpr const char* kName = "decompress";
  static constexpr std::array<std::string_view, 1> kOperands{"x"};
  static constexpr std::array<std::string_view, 1> kCodes{"codes"};
  View x;
  ConstView codes;
  int bits = 8;
  void check() const;
  auto fields() const { return std::tie(x, codes); }
};

/// A group whose elements differ by less is taken as constant: L/(hi - lo) would overflow.
constexpr float kLeastRange = 1e-30F;

/// The nearest bfloat16 that is not above, and not below, a finite x.
std::uint16_t bfloat16_below(float x);
std::uint16_t bfloat16_above(float x);

}  // namespace elastiform
