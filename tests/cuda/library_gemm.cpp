// What CudaBackend asks a library of matrix products for, and what it computes itself.
#include "kernels/cuda/library_gemm.hpp"

#include <memory>
#include <vector>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/cuda/placed.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/near.hpp"
#include "tests/support/staged_backend.hpp"

namespace elastiform {
namespace {

using namespace ELASTIFORM_GPU;

/// A library that reads its call as library_gemm.hpp describes it: float64 sums on the host.
class PlainLibrary final : public LibraryGemm {
 public:
  explicit PlainLibrary(int& calls) : calls_(calls) {}
  std::string name() const override { return "plain"; }
  bool multiply(Stream stream, const GemmCall& c) override {
    ++calls_;
    const Matrix a = read(stream, c.a, c.a_transposed ? c.K : c.M, c.a_transposed ? c.M : c.K, c.a_ld, c.type);
    const Matrix b = read(stream, c.b, c.b_transposed ? c.N : c.K, c.b_transposed ? c.K : c.N, c.b_ld, c.type);
    Matrix result = c.beta != 0 ? read(stream, c.add, c.M, c.N, c.add_ld, c.c_type) : Matrix(c.M, c.N, c.N, c.c_type, 0, 0);
    const Matrix bias = c.bias ? read(stream, c.bias, 1, c.N, c.N, DType::float32) : Matrix(1, c.N, c.N, DType::float32, 0, 0);
    for (std::int64_t m = 0; m < c.M; ++m)
      for (std::int64_t n = 0; n < c.N; ++n) {
        double sum = 0;
        for (std::int64_t k = 0; k < c.K; ++k)
          sum += (c.a_transposed ? a.at(k, m) : a.at(m, k)) * (c.b_transposed ? b.at(n, k) : b.at(k, n));
        result.set(m, n, c.alpha * sum + bias.at(0, n) + c.beta * (c.beta != 0 ? result.at(m, n) : 0));
      }
    const std::int64_t element = bytes_of(c.c_type);
    copy_async(stream, c.c, c.c_ld * element, result.view().data, c.N * element, c.N * element, c.M);
    return true;
  }

 private:
  static Matrix read(Stream stream, const void* from, std::int64_t rows, std::int64_t columns, std::int64_t ld, DType dtype) {
    Matrix matrix(rows, columns, columns, dtype, 0, 0);
    const std::int64_t element = bytes_of(dtype);
    copy_async(stream, matrix.view().data, columns * element, from, ld * element, columns * element, rows);
    return matrix;
  }
  int& calls_;
};

struct Shape {
  std::int64_t N, I, O;
};

/// All three products with bias, scale and sum, as they are allowed together.
std::vector<Matrix> products(Backend& k, const Memory& memory, const Shape& s, bool transposed, bool accumulate) {
  const auto weight = [&](std::uint64_t stream) {
    return transposed ? memory.operand(s.O, s.I, stream) : memory.operand(s.I, s.O, stream);
  };
  const Matrix x = memory.operand(s.N, s.I, 1), w = weight(2), dy = memory.operand(s.N, s.O, 3), bias = memory.input(1, s.O, 4),
               other = memory.input(s.N, s.I, 5);
  Matrix y = memory.output(s.N, s.O), dx = memory.output(s.N, s.I), scaled = memory.in_out(s.N, s.O, 6),
         dw = transposed ? memory.in_out(s.O, s.I, 7) : memory.in_out(s.I, s.O, 7), dbias = memory.in_out(1, s.O, 8);
  k.matmul({.y = y.view(), .x = x.view(), .w = w.view(), .bias = bias.view(), .add = {}, .transposed = transposed});
  k.matmul({.y = scaled.view(), .x = x.view(), .w = w.view(), .bias = {}, .add = scaled.view(), .scale = 0.4, .transposed = transposed});
  k.matmul_dx({.dx = dx.view(), .dy = dy.view(), .w = w.view(), .add = other.view(), .scale = 0.4, .transposed = transposed});
  k.matmul_dw({.dw = dw.view(),
               .dbias = dbias.view(),
               .x = x.view(),
               .dy = dy.view(),
               .scale = 0.4,
               .transposed = transposed,
               .accumulate = accumulate});
  return written(std::move(y), std::move(scaled), std::move(dx), std::move(dw), std::move(dbias));
}

}  // namespace

TEST_CASE("products by the device's library agree with float64", "[cuda]") {
  const Shape s = GENERATE(Shape{1, 1, 1}, Shape{5, 33, 7}, Shape{40, 16, 24});
  const bool transposed = GENERATE(false, true), accumulate = GENERATE(false, true);
  const Precision precision = GENERATE(Precision::f32, Precision::bf16);
  CAPTURE(s.N, s.I, s.O, transposed, accumulate, static_cast<int>(precision));
  int calls = 0;
  CudaBackend device(precision, std::make_unique<PlainLibrary>(calls));
  StagedBackend staged(device);
  ReferenceBackend reference;
  const bool rounds = precision == Precision::bf16;
  std::vector<Matrix> expected = products(reference, {DType::float64, 0, rounds}, s, transposed, accumulate);
  expected.back() = products(reference, {DType::float64, 0}, s, transposed, accumulate).back();  // sums of dy alone round nothing
  const std::vector<Matrix> found = products(staged, {DType::float32, 5}, s, transposed, accumulate);
  CHECK(calls == 4);
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(found[i], near(expected[i], tolerance("matmul_dw", DType::float32).scaled(expected[i].largest_magnitude())));
    CHECK(found[i].canary_intact());
  }
}

TEST_CASE("a scaled bias is no call for the library", "[cuda]") {
  int calls = 0;
  CudaBackend device(Precision::f32, std::make_unique<PlainLibrary>(calls));
  StagedBackend staged(device);
  ReferenceBackend reference;
  const auto run = [](Backend& k, const Memory& memory) {
    const Matrix x = memory.input(3, 4, 1), w = memory.input(4, 5, 2), bias = memory.input(1, 5, 3);
    Matrix y = memory.output(3, 5);
    k.matmul({.y = y.view(), .x = x.view(), .w = w.view(), .bias = bias.view(), .add = {}, .scale = 0.5});
    return y;
  };
  const Matrix expected = run(reference, {DType::float64, 0});
  CHECK_THAT(run(staged, {DType::float32, 0}), near(expected, tolerance("matmul", DType::float32).scaled(expected.largest_magnitude())));
  CHECK(calls == 0);
}

}  // namespace elastiform
