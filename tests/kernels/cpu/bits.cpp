// What oneDNN 2.6.3 does not promise and our GEMM does: bits of an element depend on its operands only.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/random.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"

using namespace elastiform;

namespace {

/// A matrix of fixed random content in memory of any leading dimension and alignment; NaN around it.
struct Operand {
  std::vector<float> memory;
  std::int64_t rows, columns, ld, offset;

  Operand(std::int64_t rows_, std::int64_t columns_, std::int64_t ld_, std::int64_t offset_, std::uint64_t seed)
      : memory(static_cast<std::size_t>(rows_ * ld_ + offset_ + 64), NAN), rows(rows_), columns(columns_), ld(ld_), offset(offset_) {
    RandomStream random(seed, Purpose::test);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j)
        memory[static_cast<std::size_t>(offset + i * ld + j)] = static_cast<float>(random.normal());
  }
  View view() { return view_of(memory.data() + offset, rows, columns, ld); }
};

std::vector<float> dense(ConstView view) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < view.rows; ++i) values.insert(values.end(), view.row<float>(i), view.row<float>(i) + view.columns);
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("a row of a product has the same bits alone and among others, whatever the leading dimensions", "[kernels]") {
  const std::int64_t M = 301, N = GENERATE(16, 50, 64, 100), K = GENERATE(1, 70, 384, 385, 1000);
  const bool transposed = GENERATE(false, true);
  const Precision precision = GENERATE(from_range(precisions_here()));
  CAPTURE(N, K, transposed, name_of(precision));
  const ThreadPool pool(1);
  CpuBackend cpu(pool, precision);
  struct Operands {
    Operand x, y, bias, w;
  };
  const auto operands = [&](std::int64_t pad, std::int64_t offset) -> Operands {
    const std::int64_t inner = transposed ? K : N;
    return {
        {M, K, K + pad, offset, 1}, {M, N, N + pad, offset, 2}, {1, N, N, offset, 3}, {transposed ? N : K, inner, inner + pad, offset, 4}};
  };
  const auto product = [&](Operands in, std::int64_t first, std::int64_t rows) {
    const View out = in.y.view().row_range(first, rows);
    cpu.matmul({.y = out,
                .x = in.x.view().row_range(first, rows),
                .w = in.w.view(),
                .bias = in.bias.view(),
                .add = out,
                .scale = 0.7,
                .transposed = transposed});
    return dense(out);
  };
  const Operands tight = operands(0, 0);
  const std::vector<float> all = product(tight, 0, M);
  for (const std::int64_t row : {0, 7, 255, 256, 300}) {
    CAPTURE(row);
    CHECK(same_bits(product(tight, row, 1), {all.begin() + row * N, all.begin() + (row + 1) * N}));
  }
  CHECK(same_bits(product(operands(32, 0), 3, 90), {all.begin() + 3 * N, all.begin() + 93 * N}));
  CHECK(same_bits(product(operands(17, 3), 0, M), all));
  CHECK(same_bits(product(operands(1024 - (transposed ? K : N) % 1024, 1), 0, M), all));
}

TEST_CASE("weight gradients of many tiles have the same bits on 1 to 8 threads and in a wider matrix", "[kernels]") {
  const std::int64_t N = 900, I = 500, O = 430;
  const Precision precision = GENERATE(from_range(precisions_here()));
  CAPTURE(name_of(precision));
  const auto gradient = [&](int threads, std::int64_t pad) {
    const ThreadPool pool(threads);
    CpuBackend cpu(pool, precision);
    Operand x(N, I, I + pad, 0, 1), dy(N, O, O + pad, 0, 2), dw(I, O, O + pad, 0, 3), dbias(1, O, O, 0, 4);
    cpu.matmul_dw({.dw = dw.view(), .dbias = dbias.view(), .x = x.view(), .dy = dy.view(), .scale = 0.3});
    std::vector<float> result = dense(dw.view());
    const std::vector<float> bias = dense(dbias.view());
    result.insert(result.end(), bias.begin(), bias.end());
    return result;
  };
  const std::vector<float> serial = gradient(1, 0);
  for (const int threads : {2, 3, 8}) {
    CAPTURE(threads);
    CHECK(same_bits(gradient(threads, 0), serial));
  }
  CHECK(same_bits(gradient(2, 33), serial));
}
