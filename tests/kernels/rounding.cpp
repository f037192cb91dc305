#include "kernels/ops/rounding.hpp"

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>

#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/near.hpp"
#include "tests/support/vectors.hpp"

namespace elastiform {
namespace {

constexpr NumberFormat kNearest[] = {NumberFormat::float16, NumberFormat::e4m3, NumberFormat::e5m2};

/// One number through the tested backend, and through the reference.
double rounded(double x, NumberFormat format, bool saturates = false, double scale = 1) {
  const TestedBackend tested;
  ReferenceBackend reference;
  Matrix in(1, 1, 1, DType::float32, x, kInputMark), out = canary(1, 1, 1, DType::float32);
  Matrix in64(1, 1, 1, DType::float64, x, kInputMark), out64 = canary(1, 1, 1, DType::float64);
  tested->round({.y = out.view(), .x = in.view(), .format = format, .scale = scale, .saturates = saturates, .noise = {}});
  reference.round({.y = out64.view(), .x = in64.view(), .format = format, .scale = scale, .saturates = saturates, .noise = {}});
  if (scale == 1 && !std::isnan(out64.at(0, 0))) CHECK(out.at(0, 0) == out64.at(0, 0));
  CHECK(std::isnan(out.at(0, 0)) == std::isnan(out64.at(0, 0)));
  return out.at(0, 0);
}

std::uint32_t hex(const nlohmann::json& text) { return static_cast<std::uint32_t>(std::stoul(text.get<std::string>(), nullptr, 16)); }

/// JSON has no infinities.
double number(const nlohmann::json& value) {
  if (value.is_number()) return value.get<double>();
  const auto text = value.get<std::string>();
  const double infinity = std::numeric_limits<double>::infinity();
  return text == "nan" ? std::numeric_limits<double>::quiet_NaN() : text == "-inf" ? -infinity : infinity;
}

double value_of_f16(std::uint32_t bits) {
  const std::uint32_t exponent = bits >> 10 & 31U, fraction = bits & 1023U;
  const double magnitude = exponent == 0    ? std::ldexp(fraction, -24)
                           : exponent == 31 ? std::numeric_limits<double>::infinity()
                                            : std::ldexp(1024.0 + fraction, static_cast<int>(exponent) - 25);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

}  // namespace

TEST_CASE("rounding agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const std::int64_t N = GENERATE(1, 3), F = GENERATE(1, 33, 257, 640);
  const NumberFormat format = GENERATE(NumberFormat::float16, NumberFormat::e4m3, NumberFormat::e5m2, NumberFormat::bfloat16_stochastic);
  const bool in_place = GENERATE(false, true);
  CAPTURE(N, F, static_cast<int>(format), in_place);
  check_conformance("round", [&](Backend& k, const Memory& memory) {
    Matrix x = memory.in_out(N, F, 1), y = memory.output(N, F);
    const double scale = format == NumberFormat::e4m3 ? 64 : 1;
    k.round({.y = in_place ? x.view() : y.view(),
             .x = x.view(),
             .format = format,
             .scale = scale,
             .saturates = false,
             .noise = {5, {1, 2}},
             .first_row = 7,
             .first_column = 100});
    return written(std::move(x), std::move(y));
  });
}

TEST_CASE("8-bit floats are those of the vector fp8", "[kernels][vectors]") {
  for (const auto& [name, format] : {std::pair<const char*, NumberFormat>{"e4m3fn", NumberFormat::e4m3}, {"e5m2", NumberFormat::e5m2}}) {
    const auto& entry = vector("fp8")[name];
    const FormatLimits limits = limits_of(format);
    CHECK(static_cast<double>(limits.largest) == entry["max_finite"].get<double>());
    CHECK(std::ldexp(1, limits.least_exponent) == entry["min_normal"].get<double>());
    for (const auto& one : entry["encode"]) {
      const auto x = static_cast<double>(std::bit_cast<float>(hex(one["x_f32_bits"])));
      for (const bool saturates : {false, true}) {
        const double expected = number(one[saturates ? "sat" : "nosat"]["value"]), got = rounded(x, format, saturates);
        CAPTURE(name, x, saturates, expected, got);
        if (std::isnan(expected)) CHECK(std::isnan(got));
        else CHECK(got == expected);
        if (expected == 0) CHECK(std::signbit(got) == std::signbit(expected));
      }
    }
    // Every number of the format stays, and what lies between two goes to the nearer one.
    const auto& magnitudes = entry["decode_magnitudes"];
    double before = -1;
    for (const auto& one : magnitudes) {
      const double value = one.is_number() ? one.get<double>() : std::numeric_limits<double>::quiet_NaN();
      if (!std::isfinite(value)) continue;
      CHECK(rounded(value, format) == value);
      if (before >= 0) {
        CHECK(rounded(before + 0.499 * (value - before), format) == before);
        CHECK(rounded(before + 0.501 * (value - before), format) == value);
      }
      before = value;
    }
  }
}

TEST_CASE("binary16 is that of the vector fp16", "[kernels][vectors]") {
  for (const auto& one : vector("fp16")["expected"]) {
    const auto x = static_cast<double>(one["x"].get<float>());
    CAPTURE(x);
    CHECK(rounded(x, NumberFormat::float16) == value_of_f16(hex(one["fp16"])));
  }
  CHECK(rounded(0x1p-25, NumberFormat::float16) == 0);
  CHECK(rounded(65520, NumberFormat::float16, true) == 65504);
}

TEST_CASE("scaled rounding is that of the vector fp8_qdq", "[kernels][vectors]") {
  const auto& entry = vector("fp8_qdq");
  for (std::size_t i = 0; i < entry["x"].size(); ++i)
    CHECK(rounded(entry["x"][i].get<double>(), NumberFormat::e4m3, true, entry["scale"].get<double>()) ==
          Approx(entry["expected"][i].get<double>()).epsilon(entry["tolerance"]["f32_rel"].get<double>()));
}

TEST_CASE("stochastic rounding to bfloat16 is that of the vector stochastic_rounding_bf16", "[kernels][vectors][statistics]") {
  const auto& entry = vector("stochastic_rounding_bf16");
  for (const auto& one : entry["cases"])
    for (std::size_t i = 0; i < one["r"].size(); ++i)
      CHECK(std::bit_cast<std::uint32_t>(rounded_at_random(std::bit_cast<float>(hex(one["f32"])), hex(one["r"][i]))) >> 16 ==
            hex(one["result"][i]));
  const auto& statistics = entry["statistics"];
  const double x = statistics["x"];
  const std::int64_t n = statistics["n"], columns = 500;
  const TestedBackend tested;
  Matrix in(n / columns, columns, columns, DType::float32, x, kInputMark);
  const Round op{.y = in.view(), .x = in.view(), .format = NumberFormat::bfloat16_stochastic, .noise = {1, {2, 3}}};
  tested->round(op);
  double sum = 0;
  for (std::int64_t i = 0; i < in.rows(); ++i)
    for (std::int64_t j = 0; j < columns; ++j) sum += in.at(i, j);
  CHECK(std::abs(sum / static_cast<double>(n) - x) <= statistics["bound_4sigma"].get<double>());

  // Where the nearest neighbour never moves, sums of stochastic rounding reach their expectation.
  constexpr int kSteps = 1024;
  Matrix sums(1, 400, 400, DType::float32, 1, kInputMark);
  for (int step = 0; step < kSteps; ++step) {
    sums.map([](double e) { return e + 0x1p-9; });
    tested->round({.y = sums.view(),
                   .x = sums.view(),
                   .format = NumberFormat::bfloat16_stochastic,
                   .noise = {1, {static_cast<std::uint32_t>(step), 4}}});
  }
  double mean = 0;
  for (std::int64_t j = 0; j < 400; ++j) mean += sums.at(0, j) / 400;
  // A step's variance is ulp² p(1-p) with p = 1/4 below 2 and 1/8 above: after 1024 steps sigma is 0.127, of the mean 0.0064.
  CHECK(std::abs(mean - statistics["stagnation"]["sr_expectation"].get<double>()) < 4 * 0.0064);
  CHECK(rounded_at_random(std::numeric_limits<float>::infinity(), 0xffff) == std::numeric_limits<float>::infinity());
}

TEST_CASE("random bits are a function of the place in the whole matrix", "[kernels]") {
  const TestedBackend tested;
  const Matrix x = normal(4, 700, 700, DType::float32, 3);
  const auto round = [&](View y, ConstView from, std::int64_t row, std::int64_t column) {
    tested->round(
        {.y = y, .x = from, .format = NumberFormat::bfloat16_stochastic, .noise = {9, {1, 2}}, .first_row = row, .first_column = column});
  };
  Matrix whole = canary(4, 700, 700, DType::float32), parts = canary(4, 700, 700, DType::float32);
  round(whole.view(), x.view(), 0, 0);
  for (const auto& [column, columns] : {std::pair<std::int64_t, std::int64_t>{0, 37}, {37, 300}, {337, 363}})
    for (std::int64_t row = 0; row < 4; row += 2)
      round(parts.view().row_range(row, 2).column_range(column, columns), x.view().row_range(row, 2).column_range(column, columns), row,
            column);
  CHECK(parts.same_bits(whole));
}

TEST_CASE("infinities and NaN are what the formats have", "[kernels][extreme]") {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const NumberFormat format : kNearest) {
    CHECK(std::isnan(rounded(std::numeric_limits<double>::quiet_NaN(), format, true)));
    CHECK(rounded(-infinity, format, true) == -static_cast<double>(limits_of(format).largest));
    if (limits_of(format).has_infinity) CHECK(rounded(3e38, format) == infinity);
    else CHECK(std::isnan(rounded(3e38, format)));
  }
}

}  // namespace elastiform
