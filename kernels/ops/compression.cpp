#include "kernels/ops/compression.hpp"

#include <bit>

#include "kernels/ops/checks.hpp"

namespace elastiform {
namespace {

void check_codes(const Checks& checks, ConstView codes, ConstView x, int bits) {
  checks.present("codes", codes);
  checks.present("x", x);
  if (bits != 8 && bits != 4 && bits != 2) checks.fail("bits is " + std::to_string(bits) + ", not 8, 4 or 2");
  checks.same("codes.rows", codes.rows, "x.rows", x.rows);
  checks.same("codes.columns", codes.columns, "the bytes of a compressed row", compressed_row_bytes(x.columns, bits));
  if (codes.dtype != DType::uint8) checks.fail("codes is " + std::string(name_of(codes.dtype)) + ", not uint8");
}

/// Of a magnitude's bits: cut off, and one more where something was cut off and `away` says so.
std::uint16_t cut(std::uint32_t bits, bool away) {
  return static_cast<std::uint16_t>((bits >> 16) + (away && (bits & 0xffffU) != 0 ? 1 : 0));
}

}  // namespace

void Compress::check() const {
  const Checks checks(kName);
  check_codes(checks, codes, x, bits);
  checks.at_least("first_row", first_row, "zero", 0);
}

void Decompress::check() const { check_codes(Checks(kName), codes, x, bits); }

std::uint16_t bfloat16_below(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return cut(bits, bits >> 31 != 0);
}

std::uint16_t bfloat16_above(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return cut(bits, bits >> 31 == 0);
}

}  // namespace elastiform
