#include "supernet/formats/half_floats.hpp"

#include <bit>
#include <cmath>
#include <limits>

#include "kernels/random.hpp"
#include "tests/support/catch.hpp"

using namespace elastiform;

TEST_CASE("float16: every value widens and comes back, and what lies between goes to the nearest", "[formats][half]") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = from_float16(half);
    if (std::isnan(value)) CHECK(std::isnan(from_float16(to_float16(value))));
    else if (to_float16(value) != half) FAIL("bits " << bits);
  }
  CHECK(from_float16(0x0001) == 0x1p-24f);
  CHECK(from_float16(0x7BFF) == 65504);
  CHECK(to_float16(65519.0f) == 0x7BFF);
  CHECK(to_float16(65520.0f) == 0x7C00);  // a tie goes to the even neighbour, which would be 65536
  CHECK(to_float16(-1e9f) == 0xFC00);
  CHECK(to_float16(0x1p-25f) == 0);  // a tie between 0 and 2^-24
  CHECK(to_float16(0x1.8p-24f) == 2);
  CHECK(to_float16(1 + 0x1p-11f) == 0x3C00);
  CHECK(to_float16(1 + 0x3p-11f) == 0x3C02);
  RandomStream random(1, Purpose::test, 0, 0);
  for (int i = 0; i < 20000; ++i) {
    const float value = static_cast<float>(random.normal() * std::exp2(random.normal() * 8));
    const std::uint16_t half = to_float16(value);
    if (!std::isfinite(from_float16(half))) continue;
    const float found = std::abs(from_float16(half) - value);
    for (const int neighbour : {-1, 1}) {  // of the bits; next to 0 they are another sign's, and farther away
      const float other = from_float16(static_cast<std::uint16_t>(half + neighbour));
      if (std::isfinite(other) && std::abs(other - value) < found) FAIL(value << " is nearer to " << other);
    }
  }
}

TEST_CASE("bfloat16: the upper half, to the nearest", "[formats][half]") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = from_bfloat16(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) CHECK(std::isnan(from_bfloat16(to_bfloat16(value))));
    else if (to_bfloat16(value) != bits) FAIL("bits " << bits);
  }
  CHECK(to_bfloat16(1 + 0x1p-8f) == 0x3F80);
  CHECK(to_bfloat16(1 + 0x3p-8f) == 0x3F82);
  CHECK(to_bfloat16(std::numeric_limits<float>::max()) == 0x7F80);
  CHECK(std::isnan(from_bfloat16(to_bfloat16(std::bit_cast<float>(0x7F800001u)))));
}
