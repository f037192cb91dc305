#include "tests/support/conformance.hpp"

#include <cmath>

#include "kernels/reference/reference_backend.hpp"
#include "tests/support/near.hpp"
#include "tests/support/sanitized.hpp"

namespace elastiform {
namespace {

// An odd distance that leaves every row misaligned, the distance of padded_ld, and a slice of a much wider weight. The first run is of a
// tight matrix.
const std::vector<std::int64_t> kPaddings = kSanitized ? std::vector<std::int64_t>{5} : std::vector<std::int64_t>{5, 32, 352};

void check_near(const char* operation, const std::vector<Matrix>& actual, const std::vector<Matrix>& expected) {
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(operation, i);
    CHECK_THAT(actual[i], near(expected[i], tolerance(operation, DType::float32).scaled(expected[i].largest_magnitude())));
    CHECK(actual[i].canary_intact());
    CHECK(expected[i].canary_intact());
  }
}

void check(const char* operation, Precision precision, const Case& run) {
  const bool rounds = precision == Precision::bf16;
  ReferenceBackend reference;
  const std::vector<Matrix> expected = run(reference, {DType::float64, 0, rounds});
  const TestedBackend tested(precision);
  const std::vector<Matrix> dense = run(*tested, {DType::float32, 0});
  check_near(operation, dense, expected);
  for (const std::string& arrangement : TestedBackend::approximate_arrangements(operation)) {
    CAPTURE(arrangement);
    const TestedBackend approximate(precision, arrangement);
    for (const std::int64_t padding : {std::int64_t{0}, std::int64_t{5}})
      check_near(operation, run(*approximate, {DType::float32, padding}), expected);
  }
  for (const std::int64_t padding : kPaddings) {
    CAPTURE(operation, padding);
    if (!rounds && !TestedBackend::is_slow())
      check_same_bits(run(reference, {DType::float64, padding, rounds}), expected);  // it has one arithmetic: once is enough
    check_same_bits(run(*tested, {DType::float32, padding}), dense);
  }
  for (const std::string& arrangement : TestedBackend::arrangements()) {
    CAPTURE(operation, arrangement);
    const TestedBackend arranged(precision, arrangement);
    check_same_bits(run(*arranged, {DType::float32, 5}), dense);
  }
}

}  // namespace

void check_same_bits(const std::vector<Matrix>& actual, const std::vector<Matrix>& expected) {
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(i);
    CHECK(actual[i].same_bits(expected[i]));
    CHECK(actual[i].canary_intact());
  }
}

Matrix Memory::operand(std::int64_t rows, std::int64_t columns, std::uint64_t stream) const {
  Matrix result = normal(rows, columns, columns + padding, operand_dtype(), stream);
  for (std::int64_t i = 0; rounds_operands && i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) result.set(i, j, to_bf16(static_cast<float>(result.at(i, j))));
  return result;
}

Matrix Memory::in_out(std::int64_t rows, std::int64_t columns, std::uint64_t stream) const {
  Matrix result(rows, columns, columns + padding, dtype, 0, kOutputMark);
  const Matrix values = input(rows, columns, stream);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) result.set(i, j, values.at(i, j));
  return result;
}

void check_conformance(const char* operation, const Case& run) { check(operation, Precision::f32, run); }

void check_bf16_conformance(const char* operation, const Case& run) {
  TestedBackend::for_each_bf16_kernel([&] { check(operation, Precision::bf16, run); });
}

void check_stored_operands(const Case& run) {
  std::vector<std::string> arrangements = TestedBackend::arrangements();
  if (!kSanitized) arrangements = {"", arrangements.back()};
  TestedBackend::for_each_bf16_kernel([&] {
    const TestedBackend tested(Precision::bf16);
    const std::vector<Matrix> expected = run(*tested, {DType::float32, 0, true});
    for (const std::int64_t padding : kSanitized ? std::vector<std::int64_t>{5} : std::vector<std::int64_t>{0, 5, 32})
      for (const std::string& arrangement : arrangements) {
        CAPTURE(padding, arrangement);
        const TestedBackend other(Precision::bf16, arrangement);
        const std::vector<Matrix> stored = run(*other, {DType::float32, padding, true, true});
        REQUIRE(stored.size() == expected.size());
        for (std::size_t i = 0; i < stored.size(); ++i) {
          CAPTURE(i);
          CHECK(stored[i].same_bits(converted(expected[i], stored[i].dtype())));
          CHECK(stored[i].canary_intact());
        }
      }
  });
}

}  // namespace elastiform
