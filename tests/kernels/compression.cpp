#include "kernels/ops/compression.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/near.hpp"
#include "tests/support/vectors.hpp"

namespace elastiform {
namespace {

constexpr NoiseName kName{0x0123456789abcdef, {77, 0x1234509}};

Matrix codes_for(std::int64_t rows, std::int64_t columns, int bits, std::int64_t padding) {
  const std::int64_t bytes = compressed_row_bytes(columns, bits);
  return canary(rows, bytes, bytes + padding, DType::uint8);
}

/// x̂ of x, and its codes, panel by panel.
Matrix round_trip(Backend& k, const Matrix& x, int bits, const NoiseName& name, Matrix& codes, Matrix restored) {
  k.panels(x.rows(), [&](Rows r) {
    k.compress({.codes = codes.view()[r], .x = x.view()[r], .bits = bits, .noise = name, .first_row = r.first});
    k.decompress({.x = restored.view()[r], .codes = codes.view()[r], .bits = bits});
  });
  return restored;
}

float float_of(std::uint16_t half) { return std::bit_cast<float>(std::uint32_t{half} << 16); }

/// What compression.hpp says of a row, element by element in float32.
std::vector<std::uint8_t> codes_of_row(const std::vector<float>& x, int bits, const NoiseName& name, std::uint32_t row) {
  const auto columns = static_cast<std::int64_t>(x.size()), groups = compressed_groups(columns);
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(compressed_row_bytes(columns, bits)), 0);
  const float levels = static_cast<float>((1 << bits) - 1);
  for (std::int64_t c = 0; c < columns; ++c) {
    const std::int64_t g = c / 256, first = 256 * g, in = c - first;
    const auto begin = x.begin() + first, end = x.begin() + std::min(first + 256, columns);
    const std::uint16_t ends[2] = {bfloat16_below(*std::min_element(begin, end)), bfloat16_above(*std::max_element(begin, end))};
    std::memcpy(bytes.data() + 4 * g, ends, sizeof ends);
    const float low = float_of(ends[0]), width = float_of(ends[1]) - low, scale = width < kLeastRange ? 0 : levels / width;
    const auto words = philox4x32({static_cast<std::uint32_t>(32 * g + in % 32), row, name.name[0], name.name[1]},
                                  {static_cast<std::uint32_t>(name.seed), static_cast<std::uint32_t>(name.seed >> 32)});
    const std::uint32_t half = words[static_cast<std::size_t>(in / 64)] >> (in / 32 % 2 * 16) & 0xffff;
    const float product = (x[static_cast<std::size_t>(c)] - low) * scale;
    const float steps = product + (static_cast<float>(half) + 0.5F) * (1.0F / 65536);
    bytes[static_cast<std::size_t>(4 * groups + c * bits / 8)] |=
        static_cast<std::uint8_t>(static_cast<unsigned>(std::min(steps, levels)) << (c * bits % 8));
  }
  return bytes;
}

}  // namespace

TEST_CASE("compression agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const std::int64_t N = GENERATE(1, 3, 300), F = GENERATE(1, 33, 256, 257, 640);
  CAPTURE(N, F);
  check_conformance("compression", [&](Backend& k, const Memory& memory) {
    const Matrix x = memory.input(N, F, 1);
    Matrix codes = codes_for(N, F, 8, memory.padding);
    Matrix restored = round_trip(k, x, 8, kName, codes, memory.output(N, F));
    CHECK(codes.canary_intact());
    return written(std::move(restored));
  });
}

TEST_CASE("codes are the formula's, bit by bit, on every backend and from either storage", "[kernels]") {
  const int bits = GENERATE(8, 4, 2);
  const std::int64_t F = GENERATE(1, 2, 3, 5, 31, 100, 256, 259, 640);
  constexpr std::int64_t kRows = 3;
  const DType stored = GENERATE(DType::float32, DType::bfloat16);
  const std::vector<Precision> precisions = TestedBackend::precisions();
  if (stored == DType::bfloat16 && precisions.size() == 1) return;
  CAPTURE(bits, F, name_of(stored));
  const TestedBackend tested(stored == DType::bfloat16 ? Precision::bf16 : Precision::f32);
  const Matrix x = normal(kRows, F, F + 5, stored, 3);
  Matrix codes = codes_for(kRows, F, bits, 7);
  const Matrix restored = round_trip(*tested, x, bits, kName, codes, canary(kRows, F, F + 3, stored));
  CHECK(codes.canary_intact());
  CHECK(restored.canary_intact());
  for (std::int64_t n = 0; n < kRows; ++n) {
    std::vector<float> row;
    for (std::int64_t c = 0; c < F; ++c) row.push_back(static_cast<float>(x.at(n, c)));
    const std::vector<std::uint8_t> expected = codes_of_row(row, bits, kName, static_cast<std::uint32_t>(n));
    CHECK(std::memcmp(codes.view().row_range(n, 1).data, expected.data(), expected.size()) == 0);
    for (std::int64_t c = 0; c < F; ++c) {
      const std::uint8_t* const ends = expected.data() + 4 * (c / 256);
      const float low = float_of(static_cast<std::uint16_t>(ends[0] | ends[1] << 8));
      const float width = float_of(static_cast<std::uint16_t>(ends[2] | ends[3] << 8)) - low;
      const int code = expected[static_cast<std::size_t>(4 * compressed_groups(F) + c * bits / 8)] >> (c * bits % 8) & ((1 << bits) - 1);
      const float product = static_cast<float>(code) * (width < kLeastRange ? 0 : width / static_cast<float>((1 << bits) - 1));
      const float value = product + low;
      CHECK(restored.at(n, c) == static_cast<double>(stored == DType::bfloat16 ? to_bf16(value) : value));
    }
  }
}

TEST_CASE("compressed values have the expectation and the variance of the vector activation_quant", "[kernels][vectors]") {
  const auto& entry = vector("activation_quant");
  const auto values = entry["x"].get<std::vector<double>>();
  const auto F = static_cast<std::int64_t>(values.size());
  const int bits = GENERATE(8, 4, 2);
  const auto& expected = entry["expected"][std::to_string(bits)];
  const double scale = expected["scale"], least = expected["min"];
  constexpr int kDraws = 4000;  // a row each: noise differs from row to row
  Matrix x(kDraws, F, F, DType::float64, 0, kInputMark);
  for (std::int64_t n = 0; n < kDraws; ++n)
    for (std::int64_t c = 0; c < F; ++c) x.set(n, c, values[static_cast<std::size_t>(c)]);
  ReferenceBackend k;
  Matrix codes = codes_for(kDraws, F, bits, 0);
  const Matrix restored = round_trip(k, x, bits, kName, codes, canary(kDraws, F, F, DType::float64));
  CHECK(static_cast<double>(compressed_row_bytes(F, bits) - 4) == expected["bytes_payload"].get<double>());
  for (std::int64_t c = 0; c < F; ++c) {
    const auto at = static_cast<std::size_t>(c);
    const double mean = expected["expectation"][at], variance = expected["variance"][at], up = expected["p_up"][at];
    const double below = std::floor((mean - least) / scale + 1e-9);
    double sum = 0, squares = 0;
    for (std::int64_t n = 0; n < kDraws; ++n) {
      const double got = restored.at(n, c), steps = (got - least) / scale - below;
      REQUIRE((std::abs(steps) < 1e-9 || (up > 0 && std::abs(steps - 1) < 1e-9)));
      sum += got, squares += (got - mean) * (got - mean);
    }
    CHECK(std::abs(sum / kDraws - mean) <= 4 * std::sqrt(variance / kDraws) + 1e-12);
    CHECK(squares / kDraws == Approx(variance).epsilon(0.1).margin(1e-12));
  }
}

TEST_CASE("a group with a NaN or an infinity comes back as NaN, a constant one as itself", "[kernels][extreme]") {
  const TestedBackend tested;
  const int bits = GENERATE(8, 2);
  const double odd =
      GENERATE(std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity());
  Matrix x(1, 300, 300, DType::float32, 0.5, kInputMark);
  for (std::int64_t c = 256; c < 300; ++c) x.set(0, c, c == 270 ? odd : 1.0 + static_cast<double>(c));
  Matrix codes = codes_for(1, 300, bits, 0);
  const Matrix restored = round_trip(*tested, x, bits, kName, codes, canary(1, 300, 300, DType::float32));
  for (std::int64_t c = 0; c < 256; ++c) CHECK(restored.at(0, c) == 0.5);
  for (std::int64_t c = 256; c < 300; ++c) CHECK(std::isnan(restored.at(0, c)));
}

TEST_CASE("ends of a range are rounded outwards", "[kernels]") {
  for (const float x : {0.0F, 1.0F, -1.0F, 1.001F, -1.001F, 3e-40F, -3e-40F, 3e38F, -3e38F}) {
    CHECK(float_of(bfloat16_below(x)) <= x);
    CHECK(float_of(bfloat16_above(x)) >= x);
  }
  CHECK(bfloat16_below(1.0F) == 0x3f80);
  CHECK(bfloat16_above(1.001F) == 0x3f81);
  CHECK(bfloat16_below(-1.001F) == 0xbf81);
}

}  // namespace elastiform
