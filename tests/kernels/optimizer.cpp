#include <cmath>
#include <limits>

#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/near.hpp"

namespace elastiform {
namespace {

struct Shape {
  std::int64_t rows, columns;
};
const std::vector<Shape> kShapes = {{1, 1}, {3, 7}, {1, 96}, {17, 33}, {300, 160}};

}  // namespace

TEST_CASE("adamw agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes));
  const bool graded = GENERATE(true, false);
  CAPTURE(s.rows, s.columns, graded);
  check_conformance("adamw", [&](Backend& k, const Memory& memory) {
    Matrix weight = memory.in_out(s.rows, s.columns, 1), m = memory.in_out(s.rows, s.columns, 2), v = memory.in_out(s.rows, s.columns, 3);
    v.map([](double e) { return static_cast<float>(e * e); });
    const Matrix gradient = memory.input(s.rows, s.columns, 4);
    k.adamw({.weight = weight.view(),
             .m = m.view(),
             .v = v.view(),
             .gradient = graded ? gradient.view() : ConstView{},
             .rate = 1e-3,
             .beta1 = 0.9,
             .beta2 = 0.95,
             .eps = 1e-8,
             .decay = 0.1,
             .correction1 = 1 - std::pow(0.9, 3),
             .correction2 = 1 - std::pow(0.95, 3),
             .gradient_scale = 0.25});
    return written(std::move(weight), std::move(m), std::move(v));
  });
}

TEST_CASE("adamw without a gradient is adamw with zeros", "[kernels]") {
  const TestedBackend tested;
  const Memory memory{DType::float32, 5};
  const auto step = [&](bool graded) {
    Matrix weight = memory.in_out(17, 33, 1), m = memory.in_out(17, 33, 2), v = memory.in_out(17, 33, 3);
    v.map([](double e) { return e * e; });
    const Matrix zeros(17, 33, 33, DType::float32, 0, kInputMark);
    tested->adamw({.weight = weight.view(),
                   .m = m.view(),
                   .v = v.view(),
                   .gradient = graded ? zeros.view() : ConstView{},
                   .rate = 1e-3,
                   .decay = 0.1,
                   .correction1 = 0.1,
                   .correction2 = 0.05});
    return written(std::move(weight), std::move(m), std::move(v));
  };
  const std::vector<Matrix> with = step(true), without = step(false);
  for (std::size_t i = 0; i < with.size(); ++i) CHECK(with[i].same_bits(without[i]));
}

TEST_CASE("adamw of no gradient, no moments and no decay leaves the weight as it is", "[kernels][extreme]") {
  const TestedBackend tested;
  const Memory memory{DType::float32, 5};
  Matrix weight = memory.in_out(3, 33, 1), m(3, 33, 38, DType::float32, 0, kOutputMark), v = m;
  const Matrix before = weight;
  tested->adamw(
      {.weight = weight.view(), .m = m.view(), .v = v.view(), .gradient = {}, .rate = 1e-3, .correction1 = 0.1, .correction2 = 0.05});
  CHECK(weight.same_bits(before));
}

TEST_CASE("sum_squares agrees with float64 at any distance of the rows", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes), Shape{1, 10000}, Shape{3, 4097});
  const std::int64_t padding = GENERATE(0, 5, 352);
  CAPTURE(s.rows, s.columns, padding);
  ReferenceBackend reference;
  const TestedBackend tested;
  const Matrix x = Memory{DType::float64, padding}.input(s.rows, s.columns, 1),
               narrow = Memory{DType::float32, padding}.input(s.rows, s.columns, 1);
  const double sum = tested->sum_squares(narrow.view());
  CHECK(sum == Approx(reference.sum_squares(x.view())).epsilon(tolerance("sum_squares", DType::float32).relative));
  CHECK(sum == tested->sum_squares(converted(narrow, DType::float32).view()));
}

TEST_CASE("sum_squares is not finite exactly when an element is not", "[kernels][extreme]") {
  const TestedBackend tested;
  const std::int64_t column = GENERATE(0, 15, 16, 4096, 5000);
  CAPTURE(column);
  Matrix x = Memory{DType::float32, 5}.input(2, 5001, 1);
  x.set(1, column, std::numeric_limits<float>::max());  // its square is a float64
  CHECK(std::isfinite(tested->sum_squares(x.view())));
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
    x.set(1, column, bad);
    CHECK_FALSE(std::isfinite(tested->sum_squares(x.view())));
  }
}

}  // namespace elastiform
