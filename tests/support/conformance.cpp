#include "tests/support/conformance.hpp"

#include <bit>
#include <cmath>

#include "kernels/cpu/bf16.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/support/near.hpp"

namespace elastiform {
namespace {

// A tight matrix, an odd distance that leaves every row misaligned, the distance of padded_ld, and a slice of a much wider weight.
constexpr std::int64_t kPaddings[] = {5, 32, 352};

void check_same_bits(const std::vector<Matrix>& actual, const std::vector<Matrix>& expected) {
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(i);
    CHECK(actual[i].same_bits(expected[i]));
    CHECK(actual[i].canary_intact());
  }
}

void check(const char* operation, Precision precision, const Case& run) {
  const bool rounds = precision == Precision::bf16;
  ReferenceBackend reference;
  const std::vector<Matrix> expected = run(reference, {DType::float64, 0, rounds});
  Cpu cpu(1, precision);
  const std::vector<Matrix> dense = run(cpu.backend, {DType::float32, 0});
  REQUIRE(dense.size() == expected.size());
  for (std::size_t i = 0; i < dense.size(); ++i) {
    CAPTURE(operation, i);
    CHECK_THAT(dense[i], near(expected[i], tolerance(operation, DType::float32).scaled(expected[i].largest_magnitude())));
    CHECK(dense[i].canary_intact());
    CHECK(expected[i].canary_intact());
  }
  for (const std::int64_t padding : kPaddings) {
    CAPTURE(operation, padding);
    check_same_bits(run(reference, {DType::float64, padding, rounds}), expected);
    check_same_bits(run(cpu.backend, {DType::float32, padding}), dense);
  }
  for (const int threads : {2, 5}) {
    CAPTURE(operation, threads);
    Cpu parallel(threads, precision);
    check_same_bits(run(parallel.backend, {DType::float32, 5}), dense);
  }
}

}  // namespace

float to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if (std::isnan(x)) return x;
  return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

std::vector<Precision> precisions_here() {
  if (cpu::has_bf16()) return {Precision::f32, Precision::bf16};
  WARN("this CPU has no bf16 dot products: only f32 is tested");
  return {Precision::f32};
}

Matrix Memory::operand(std::int64_t rows, std::int64_t columns, std::uint64_t stream) const {
  Matrix result = input(rows, columns, stream);
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
  if (precisions_here().back() == Precision::bf16) check(operation, Precision::bf16, run);
}

void check_uses_threads(int threads, const std::function<void(Backend&)>& call) {
  Cpu cpu(threads);
  call(cpu.backend);
  REQUIRE(cpu.pool.distinct_threads() > 0);  // 0: computed on the caller, and no repetition would change that
  constexpr int kRepetitions = 5000;         // 44 were the most that were needed, at a load of 45 on 2 cores
  for (int i = 0; i < kRepetitions && cpu.pool.distinct_threads() < threads; ++i) call(cpu.backend);
  CHECK(cpu.pool.distinct_threads() == threads);
}

}  // namespace elastiform
