// The noise scale from gradients of two batch sizes.
#include "trainers/gradient_noise.hpp"

#include <array>
#include <cmath>

#include "kernels/random.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {

TEST_CASE("the estimate is that of the covariance from which gradients are drawn", "[trainers][noise]") {
  // One sequence's gradient is (3, 4) and noise of variances 5 and 7: ‖G‖² = 25, tr Σ = 12.
  constexpr int kSmall = 4, kLarge = 16, kSteps = 20000;
  RandomStream random(1, Purpose::test);
  double small_square = 0, large_square = 0;
  for (int step = 0; step < kSteps; ++step) {
    std::array<double, 2> large{};
    for (int part = 0; part < kLarge / kSmall; ++part) {
      std::array<double, 2> small{};
      for (int i = 0; i < kSmall; ++i) {
        small[0] += (3 + std::sqrt(5.0) * random.normal()) / kSmall;
        small[1] += (4 + std::sqrt(7.0) * random.normal()) / kSmall;
      }
      small_square += (small[0] * small[0] + small[1] * small[1]) * kSmall / kLarge / kSteps;
      large[0] += small[0] * kSmall / kLarge, large[1] += small[1] * kSmall / kLarge;
    }
    large_square += (large[0] * large[0] + large[1] * large[1]) / kSteps;
  }
  const GradientNoise found = gradient_noise(small_square, large_square, kSmall, kLarge);
  CHECK(found.signal == Approx(25).epsilon(0.01));
  CHECK(found.trace == Approx(12).epsilon(0.03));
  CHECK(found.scale() == Approx(12.0 / 25).epsilon(0.04));
  // What the means converge to gives the numbers themselves.
  const GradientNoise exact = gradient_noise(25 + 12.0 / kSmall, 25 + 12.0 / kLarge, kSmall, kLarge);
  CHECK(exact.signal == Approx(25));
  CHECK(exact.trace == Approx(12));
}

TEST_CASE("there is no noise scale without a signal, or of a negative trace", "[trainers][noise]") {
  CHECK(std::isnan(GradientNoise{}.scale()));
  CHECK(std::isnan(GradientNoise{.signal = -1, .trace = 2}.scale()));
  CHECK(std::isnan(GradientNoise{.signal = 0, .trace = 2}.scale()));
  CHECK(std::isnan(GradientNoise{.signal = 1, .trace = -2}.scale()));
  CHECK(GradientNoise{.signal = 2, .trace = 0}.scale() == 0);
  CHECK(GradientNoise{.signal = 2, .trace = 6}.scale() == 3);
  // A larger batch that has more than noise explains, and one that has less.
  CHECK(std::isnan(gradient_noise(1, 2, 4, 16).scale()));
  CHECK(std::isnan(gradient_noise(5, 1, 4, 16).scale()));
}

}  // namespace elastiform
