#pragma once

#include <cstdint>
#include <tuple>

#include "kernels/ops/compression.hpp"
#include "kernels/view.hpp"

namespace elastiform {

/// What float32 is rounded to, to the nearest and ties to even: IEEE binary16, and the 8-bit formats of arXiv 2209.05433, E4M3 without
/// infinities. bfloat16_stochastic: one of the two neighbours in bfloat16, at random so that the expectation is the number (16 random
/// bits are added to those that are cut off).
enum class NumberFormat : std::uint8_t { float16, e4m3, e5m2, bfloat16_stochastic };

struct FormatLimits {
  int significant_bits = 0;  // the leading one included
  int least_exponent = 0;    // of a normal number
  float largest = 0;
  bool has_infinity = true;  // else what overflows is NaN
};
constexpr FormatLimits limits_of(NumberFormat format) {
  switch (format) {
    case NumberFormat::float16: return {11, -14, 65504, true};
    case NumberFormat::e4m3: return {4, -6, 448, false};
    case NumberFormat::e5m2: return {3, -14, 57344, true};
    case NumberFormat::bfloat16_stochastic: return {8, -126, 3.38953139e38F, true};
  }
  return {};
}

/// The bfloat16 of a finite x with 16 random bits added to what is cut off; infinities and NaN stay.
float rounded_at_random(float x, std::uint32_t noise);

/// y = round(scale · x) / scale, element by element, in float32; y may be x. saturates: what overflows, infinities included, becomes the
/// largest number, which hides a divergence. NaN stays. Random bits are those of NoiseName for row first_row + n and column first_column
/// + c. Used inside panels and for_each.
struct Round {
  static constexpr const char* kName = "round";
  View y;
  ConstView x;
  NumberFormat format = NumberFormat::float16;
  double scale = 1;
  bool saturates = false;
  NoiseName noise;
  std::int64_t first_row = 0, first_column = 0;
  void check() const;
  auto fields() const { return std::tie(y, x); }
};

}  // namespace elastiform
