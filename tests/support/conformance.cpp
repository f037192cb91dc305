#include "tests/support/conformance.hpp"

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

}  // namespace

Matrix Memory::in_out(std::int64_t rows, std::int64_t columns, std::uint64_t stream) const {
  Matrix result(rows, columns, columns + padding, dtype, 0, kOutputMark);
  const Matrix values = input(rows, columns, stream);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) result.set(i, j, values.at(i, j));
  return result;
}

void check_conformance(const char* operation, const Case& run) {
  ReferenceBackend reference;
  const std::vector<Matrix> expected = run(reference, {DType::float64, 0});
  Cpu cpu(1);
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
    check_same_bits(run(reference, {DType::float64, padding}), expected);
    check_same_bits(run(cpu.backend, {DType::float32, padding}), dense);
  }
  for (const int threads : {2, 5}) {
    CAPTURE(operation, threads);
    Cpu parallel(threads);
    check_same_bits(run(parallel.backend, {DType::float32, 5}), dense);
  }
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
