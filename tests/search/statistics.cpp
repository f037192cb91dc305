#include "search/statistics.hpp"

#include <cmath>
#include <limits>
#include <string>
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
  const auto made = [](double low, double high, double low90, double high90, double p) {
    return PairedDifference{.mean = (low + high) / 2, .low = low, .high = high, .low90 = low90, .high90 = high90, .p = p, .blocks = 9};
  };
  CHECK(verdict(made(-0.02, 0.005, -0.015, 0.004, 0.4), 0.01) == "undecided");
  CHECK(verdict(made(-0.012, 0.005, -0.009, 0.004, 0.4), 0.01) == "equivalent");  // the 90 % interval decides
  CHECK(verdict(made(0.001, 0.005, 0.0015, 0.004, 0.01), 0.01) == "worse");
  const std::vector<float> one = {1.0F}, other = {2.0F};
  CHECK(verdict(paired_difference(one, other, 0), 0.01) == "undecided");
  CHECK(verdict(paired_difference({}, {}, 0), 0.01) == "undecided");
  CHECK_THROWS_AS(paired_difference(one, same, 0), std::logic_error);
  std::vector<float> broken = same;
  broken[7] = std::numeric_limits<float>::quiet_NaN();
  CHECK(verdict(paired_difference(broken, same, 0), 0.01) == "undecided");
}

TEST_CASE("Verdicts of a table are Holm-corrected: the smallest p needs 5 %/m, and a failure stops the rest", "[search]") {
  const auto made = [](double p, double sign) {
    return PairedDifference{
        .mean = sign, .low = sign - 0.5, .high = sign + 0.5, .low90 = sign - 0.4, .high90 = sign + 0.4, .p = p, .blocks = 9};
  };
  using Names = std::vector<std::string>;
  CHECK(verdicts(std::vector{made(0.04, -1)}, 0.01) == Names{"better"});
  CHECK(verdicts(std::vector{made(0.04, -1), made(0.04, 1)}, 0.01) == Names{"undecided", "undecided"});
  CHECK(verdicts(std::vector{made(0.04, -1), made(0.02, 1)}, 0.01) == Names{"better", "worse"});
  CHECK(verdicts(std::vector{made(0.02, -1), made(0.03, -1), made(0.001, 1)}, 0.01) == Names{"better", "better", "worse"});
  CHECK(verdicts(std::vector{made(0.026, -1), made(0.03, -1), made(0.001, 1)}, 0.01) == Names{"undecided", "undecided", "worse"});
}

TEST_CASE("The p-value of a difference is small when there is one and spread evenly when there is none", "[search]") {
  CHECK(paired_difference(normal(200, 0.5, 1, 4), std::vector<float>(200, 0.0F), 1).p < 0.001);
  int rare = 0;
  for (std::uint64_t r = 0; r < 100; ++r)
    rare += paired_difference(normal(60, 0.0, 1, 500 + r), std::vector<float>(60, 0.0F), 3).p < 0.1 ? 1 : 0;
  CHECK(rare >= 3);
  CHECK(rare <= 20);
}

TEST_CASE("a difference in another unit has all of its ends there, so a verdict may change with it", "[search][statistics]") {
  PairedDifference nats{.mean = 0.001, .low = -0.008, .high = 0.0095, .low90 = -0.007, .high90 = 0.0085, .p = 0.8, .blocks = 40};
  CHECK(verdict(nats, 0.01) == "equivalent");
  const PairedDifference bits = nats.scaled(1 / std::log(2.0));
  CHECK(bits.high90 == Approx(0.0085 / std::log(2.0)));
  CHECK(bits.low90 == Approx(-0.007 / std::log(2.0)));
  CHECK(bits.p == nats.p);
  CHECK(bits.blocks == 40);
  CHECK(verdict(bits, 0.01) == "undecided");
}

TEST_CASE("Differences over seeds have Student's interval, and few or endless ones no narrow one", "[search]") {
  // Quantiles of Student's t with 4 degrees of freedom: 2.7764451 (97.5 %), 2.1318468 (95 %).
  const PairedDifference found = difference_over_seeds(std::vector<double>{0.01, 0.03, 0.02, 0.04, 0.0});
  CHECK(found.mean == Approx(0.02));
  CHECK(found.low == Approx(0.02 - 2.7764451 * std::sqrt(0.00025 / 5)).epsilon(1e-6));
  CHECK(found.high90 == Approx(0.02 + 2.1318468 * std::sqrt(0.00025 / 5)).epsilon(1e-6));
  CHECK(found.p == Approx(0.0474).margin(1e-4));
  CHECK(found.blocks == 5);
  for (const auto& unknown : {std::vector<double>{0.1}, std::vector<double>{0.1, std::numeric_limits<double>::quiet_NaN()}}) {
    const PairedDifference wide = difference_over_seeds(unknown);
    CHECK(std::isinf(wide.low));
    CHECK(std::isinf(wide.high90));
    CHECK(verdict(wide, 0.01) == "undecided");
  }
  // The same arm twice.
  CHECK(verdict(difference_over_seeds(std::vector<double>{0, 0, 0}), 0.01) == "equivalent");
}

}  // namespace elastiform
