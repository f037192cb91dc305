#include "kernels/ops/rounding.hpp"

#include <bit>
#include <cmath>

#include "kernels/ops/checks.hpp"

namespace elastiform {

void Round::check() const {
  const Checks checks(kName);
  checks.present("x", x);
  checks.alike("y", y, "x", x);
  if (!(scale > 0) || !std::isfinite(scale)) checks.fail("scale is " + std::to_string(scale) + ", not a positive number");
  checks.at_least("first_row", first_row, "zero", 0);
  checks.at_least("first_column", first_column, "zero", 0);
}

float rounded_at_random(float x, std::uint32_t noise) {
  return std::isfinite(x) ? std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + noise) & 0xffff0000U) : x;
}

}  // namespace elastiform
