#include "kernels/arena.hpp"

#include <cstdint>
#include <stdexcept>
#include <utility>

#include "tests/support/catch.hpp"

using namespace elastiform;

TEST_CASE("leading dimensions are multiples of 32 and never of 512; one row stays tight", "[kernels]") {
  for (std::int64_t columns = 1; columns <= 2100; ++columns) {
    const std::int64_t ld = padded_ld(2, columns);
    REQUIRE(ld >= columns);
    REQUIRE(ld % 32 == 0);
    REQUIRE(ld % 512 != 0);
    REQUIRE(ld < columns + 64);
    REQUIRE(padded_ld(1, columns) == columns);
  }
}

TEST_CASE("an arena hands out aligned matrices, counts to the byte and refuses what was not planned", "[kernels]") {
  const std::int64_t bytes = Arena::bytes_for(3, 40, DType::float32) + Arena::bytes_for(1, 5, DType::float64);
  CHECK(bytes == 3 * 64 * 4 + 64);
  Arena arena(bytes);
  const View a = arena.matrix(3, 40, DType::float32), b = arena.matrix(1, 5, DType::float64);
  CHECK(reinterpret_cast<std::uintptr_t>(a.data) % 64 == 0);
  CHECK(b.data == a.data + 3 * 64 * 4);
  CHECK(a.ld == 64);
  CHECK(b.ld == 5);
  CHECK(arena.used() == bytes);
  CHECK_THROWS_AS(arena.matrix(1, 1, DType::float32), std::logic_error);
  CHECK(arena.used() == bytes);
}

TEST_CASE("scopes give back what they took; the peak remembers", "[kernels]") {
  Arena arena(1024);
  arena.matrix(1, 16, DType::float32);
  {
    const ArenaScope scope(arena);
    arena.matrix(1, 128, DType::float32);
    CHECK(arena.used() == 64 + 512);
  }
  CHECK(arena.used() == 64);
  CHECK(arena.peak() == 64 + 512);
  arena.reset_peak();
  CHECK(arena.peak() == 64);
  CHECK_THROWS_AS(arena.release(128), std::logic_error);
}
