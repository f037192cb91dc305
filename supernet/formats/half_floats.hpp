#pragma once

#include <cstdint>

namespace elastiform {

/// IEEE 754 binary16 as files keep it; every value widens exactly.
float from_float16(std::uint16_t bits);
/// To the nearest, ties to even; beyond 65504 it becomes infinite.
std::uint16_t to_float16(float value);

/// The upper half of a float32.
float from_bfloat16(std::uint16_t bits);
/// To the nearest, ties to even; NaN stays NaN.
std::uint16_t to_bfloat16(float value);

}  // namespace elastiform
