#include "kernels/random.hpp"

#include <array>
#include <cmath>
#include <set>
#include <stdexcept>
#include <vector>

#include "tests/support/catch.hpp"

using namespace elastiform;
using Words = std::array<std::uint32_t, 4>;

TEST_CASE("Philox4x32-10 gives the known answers of Random123", "[kernels]") {
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("streams of equal names are equal, of different names different", "[kernels]") {
  const auto first = [](RandomStream stream) { return stream.next_u64(); };
  const std::uint64_t base = first({7, Purpose::batch, 3, 1});
  CHECK(base == first({7, Purpose::batch, 3, 1}));
  std::set<std::uint64_t> seen{base};
  for (const RandomStream& other :
       std::vector<RandomStream>{RandomStream(8, Purpose::batch, 3, 1), RandomStream(7ULL << 32 | 7, Purpose::batch, 3, 1),
                                 RandomStream(7, Purpose::subnet, 3, 1), RandomStream(7, Purpose::batch, 4, 1),
                                 RandomStream(7, Purpose::batch, 3, 2), RandomStream(7, Purpose::batch, 1ULL << 39 | 3, 1)})
    seen.insert(first(other));
  CHECK(seen.size() == 7);
  CHECK_THROWS_AS(RandomStream(1, Purpose::test, 1ULL << 40), std::logic_error);
  CHECK_THROWS_AS(RandomStream(1, Purpose::test, 0, 1U << 24), std::logic_error);
}

TEST_CASE("below(n) is uniform over 0 … n-1", "[kernels]") {
  RandomStream stream(1, Purpose::test);
  const std::uint64_t n = GENERATE(1, 2, 6, 7);
  std::vector<double> counts(n);
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    const std::uint64_t draw = stream.below(n);
    REQUIRE(draw < n);
    ++counts[draw];
  }
  double chi2 = 0;
  const double expected = static_cast<double>(kDraws) / static_cast<double>(n);
  for (const double count : counts) chi2 += (count - expected) * (count - expected) / expected;
  CHECK(chi2 < 30);  // 6 degrees of freedom at most: probability 4e-5, and the seed is fixed
  CHECK_THROWS_AS(stream.below(0), std::logic_error);
  for (int i = 0; i < 100; ++i) CHECK(stream.below(1ULL << 63 | 1) <= 1ULL << 63);
}

TEST_CASE("uniform() and normal() have the moments of their laws", "[kernels]") {
  RandomStream stream(2, Purpose::test);
  constexpr int kDraws = 40000;
  double sum = 0, normal_sum = 0, normal_squares = 0, normal_fourth = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = stream.uniform();
    REQUIRE(u >= 0);
    REQUIRE(u < 1);
    sum += u;
    const double z = stream.normal();
    REQUIRE(std::isfinite(z));
    normal_sum += z;
    normal_squares += z * z;
    normal_fourth += z * z * z * z;
  }
  // Five standard errors each.
  CHECK(sum / kDraws == Approx(0.5).margin(5 * 0.289 / 200));
  CHECK(normal_sum / kDraws == Approx(0).margin(5.0 / 200));
  CHECK(normal_squares / kDraws == Approx(1).margin(5 * 1.414 / 200));
  CHECK(normal_fourth / kDraws == Approx(3).margin(5 * 9.8 / 200));
}
