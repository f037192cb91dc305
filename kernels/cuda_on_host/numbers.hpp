#pragma once

#include <cstdint>
#include <cstring>

// 16-bit numbers as CUDA's conversions have them: nearest, ties to even; not-a-number becomes 0x7fff.
namespace elastiform::ELASTIFORM_GPU::host {

static inline std::uint32_t bits_of(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
static inline float float_of_bits(std::uint32_t bits) {
  float x = 0;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

static inline float float_of_bfloat16(std::uint16_t half) { return float_of_bits(static_cast<std::uint32_t>(half) << 16); }
static inline std::uint16_t bfloat16_of(float x) {
  const std::uint32_t bits = bits_of(x);
  if (x != x) return 0x7fff;
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float float_of_float16(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16, magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);  // infinite or not a number
  if (magnitude >= 0x0400) return float_of_bits(sign | ((magnitude << 13) + (112u << 23)));      // exponents differ by 127 - 15
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
  return sign != 0 ? -subnormal : subnormal;
}
static inline std::uint16_t float16_of(float x) {
  const std::uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7fff;
  if (magnitude >= 0x477ff000) return static_cast<std::uint16_t>(sign | 0x7c00);  // from 65520 on: infinity
  if (magnitude >= 0x38800000) {                                                  // from 2^-14 on: normal
    const std::uint32_t rebased = magnitude - (112u << 23);
    return static_cast<std::uint16_t>(sign | (rebased + 0xfff + (rebased >> 13 & 1)) >> 13);
  }
  // Adding 0.5 puts 2^-24 at the last bit of the sum, which rounds as wanted.
  const float shifted = float_of_bits(magnitude) + 0.5f;
  return static_cast<std::uint16_t>(sign | (bits_of(shifted) - 0x3f000000));
}

}  // namespace elastiform::ELASTIFORM_GPU::host
