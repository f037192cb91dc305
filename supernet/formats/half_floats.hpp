#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

// In the header, as files hold them by the hundred million: loops over them become vectors.
namespace elastiform {

/// bits >> shift, to the nearest, ties to even.
constexpr std::uint32_t rounded_shift(std::uint32_t bits, int shift) {
  const std::uint32_t half = (1u << (shift - 1)) - 1, odd = (bits >> shift) & 1u;
  return (bits + half + odd) >> shift;
}

/// IEEE 754 binary16 as files keep it; every value widens exactly.
inline float from_float16(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16, mantissa = bits & 0x3FFu, exponent = (bits >> 10) & 0x1Fu;
  if (exponent == 0) {  // zero or subnormal: mantissa · 2^-24 is exact in float32
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -value : value;
  }
  const std::uint32_t widened = exponent == 31 ? 255u : exponent + 112u;
  return std::bit_cast<float>(sign | widened << 23 | mantissa << 13);
}

/// To the nearest, ties to even; beyond 65504 it becomes infinite.
inline std::uint16_t to_float16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value), magnitude = bits & 0x7FFFFFFFu;
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  if (std::isnan(value)) return sign | 0x7E00u;
  if (magnitude >= 0x47800000u) return sign | 0x7C00u;  // 65536 and above; what lies between 65504 and it may round up to infinity
  if (magnitude < 0x38800000u) {                        // below 2^-14: a multiple of 2^-24, by the addition's own rounding
    const float shifted = std::abs(value) + 0.5f;       // one step of float32 in [0.5, 1) is 2^-24
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5f)));
  }
  return static_cast<std::uint16_t>(sign | rounded_shift(magnitude - (112u << 23), 13));
}

/// The upper half of a float32.
inline float from_bfloat16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

/// To the nearest, ties to even; NaN stays NaN.
inline std::uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>(rounded_shift(bits, 16));
}

}  // namespace elastiform
