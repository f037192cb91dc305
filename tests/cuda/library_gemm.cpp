// What CudaBackend asks a library of matrix products for, and what it computes itself.
#include "kernels/cuda/library_gemm.hpp"

#include <memory>
#include <vector>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/cuda/placed.hpp"
#include "tests/cuda/plain_library.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/near.hpp"
#include "tests/support/staged_backend.hpp"

namespace elastiform {
namespace {

using namespace ELASTIFORM_GPU;

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
  CudaBackend device(precision, std::make_unique<PlainLibrary>(&calls));
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

TEST_CASE("files name the library whose products they hold", "[cuda]") {
  const CudaBackend with(Precision::f32, std::make_unique<PlainLibrary>()), without(Precision::f32, nullptr);
  CHECK_THAT(with.arithmetic(), Catch::Matchers::EndsWith(", plain"));
  CHECK_THAT(without.arithmetic(), !Catch::Matchers::Contains("plain"));
}

TEST_CASE("products with a bias, scaled or stored in bfloat16, are the library's too", "[cuda]") {
  const double scale = GENERATE(1.0, 0.5);
  const bool stored = GENERATE(false, true), added = GENERATE(false, true);
  if (stored && (added || scale != 1)) return;  // sums with what is added go to the stream, in float32
  const Precision precision = stored ? Precision::bf16 : GENERATE(Precision::f32, Precision::bf16);
  CAPTURE(scale, stored, added, name_of(precision));
  int calls = 0;
  CudaBackend device(precision, std::make_unique<PlainLibrary>(&calls));
  ReferenceBackend reference;
  const auto run = [&](Backend& k, const Memory& memory) {
    const Placed x(k, memory.operand(30, 40, 1)), w(k, memory.rounds_operands ? memory.operand(40, 50, 2) : memory.input(40, 50, 2)),
        bias(k, memory.input(1, 50, 3)), other(k, memory.input(30, 50, 4)),
        y(k, stored ? memory.operand_output(30, 50) : memory.output(30, 50));
    k.matmul({.y = y.view(),
              .x = x.view(),
              .w = w.view(),
              .bias = bias.view(),
              .add = added ? ConstView(other.view()) : ConstView{},
              .scale = scale});
    return y.read();
  };
  const Matrix expected = run(reference, {DType::float64, 0, precision == Precision::bf16});
  const Matrix found = converted(run(device, {DType::float32, 0, false, stored}), DType::float32);
  const char* const row = stored ? "matmul stored" : precision == Precision::bf16 ? "matmul bf16" : "matmul";
  CHECK_THAT(found, near(expected, tolerance(row, DType::float32).scaled(expected.largest_magnitude())));
  CHECK(calls == 1);
}

}  // namespace elastiform
