#include "search/statistics.hpp"

#include <cmath>
#include <vector>

#include "kernels/random.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

std::vector<float> normal(std::size_t n, double mean, double deviation, std::uint64_t seed) {
  RandomStream random(seed, Purpose::test);
  std::vector<float> values(n);
  for (float& value : values) value = static_cast<float>(mean + deviation * random.normal());
  return values;
}

}  // namespace

TEST_CASE("The paired interval is the analytic one of the mean difference", "[search]") {
  // Blocks differ far more than the two subnets do: only a paired interval is narrow.
  const std::vector<float> hard = normal(400, 2, 0.5, 1);
  std::vector<float> a = hard, b = hard;
  const std::vector<float> noise = normal(400, -0.02, 0.03, 2);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += noise[i];
  double sum = 0, squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - b[i];
    sum += d;
    squares += d * d;
  }
  const double mean = sum / 400, error = std::sqrt((squares / 400 - mean * mean) / 400);
  const PairedDifference difference = paired_difference(a, b, 5);
  CHECK(difference.mean == Approx(mean).epsilon(1e-12));
  // 10,000 resamples place a 2.5 % quantile within about 3 % of the standard error.
  CHECK(difference.low == Approx(mean - 1.96 * error).margin(0.12 * error));
  CHECK(difference.high == Approx(mean + 1.96 * error).margin(0.12 * error));
  CHECK(difference.blocks == 400);
  CHECK(verdict(difference, 0.01) == "better");
  CHECK(verdict(paired_difference(b, a, 5), 0.01) == "worse");
  CHECK(paired_difference(b, a, 5).mean == Approx(-mean).epsilon(1e-12));
  CHECK(paired_difference(a, b, 5).low == difference.low);
  CHECK(paired_difference(a, b, 6).low != difference.low);
}

TEST_CASE("The interval covers the truth in 95 % of repetitions", "[search]") {
  int covered = 0;
  const int repetitions = 120;
  for (int r = 0; r < repetitions; ++r) {
    const std::vector<float> differences = normal(60, 0.1, 1, 100 + static_cast<std::uint64_t>(r)), zero(60, 0.0F);
    const PairedDifference found = paired_difference(differences, zero, 3);
    covered += found.low <= 0.1 && found.high >= 0.1 ? 1 : 0;
  }
  // Binomial(120, .95) leaves 103 … 120 at 4 standard deviations; the percentile interval of 60 blocks covers about 94 %.
  CHECK(covered >= 103);
  CHECK(covered < 120);
}

TEST_CASE("Verdicts: equivalent inside the margin, undecided beyond, nothing from one block", "[search]") {
  const std::vector<float> same(50, 1.0F);
  CHECK(verdict(paired_difference(same, same, 0), 0.01) == "equivalent");
  CHECK(verdict({.mean = 0, .low = -0.02, .high = 0.005, .blocks = 9}, 0.01) == "undecided");
  CHECK(verdict({.mean = 0, .low = -0.009, .high = 0.005, .blocks = 9}, 0.01) == "equivalent");
  CHECK(verdict({.mean = 0, .low = 0.001, .high = 0.005, .blocks = 9}, 0.01) == "worse");
  const std::vector<float> one = {1.0F}, other = {2.0F};
  CHECK(verdict(paired_difference(one, other, 0), 0.01) == "undecided");
  CHECK(verdict(paired_difference({}, {}, 0), 0.01) == "undecided");
  CHECK_THROWS_AS(paired_difference(one, same, 0), std::logic_error);
}

}  // namespace elastiform
