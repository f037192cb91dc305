#include <cmath>

#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/finite_difference.hpp"
#include "tests/support/near.hpp"

namespace elastiform {
namespace {

struct Shape {
  std::int64_t N, C;
};
// The last has more channels than a warp of a GPU keeps of a row.
const std::vector<Shape> kShapes = {{1, 1}, {1, 33}, {3, 7}, {17, 96}, {256, 160}, {300, 33}, {300, 96}, {5, 1091}};
constexpr double kEps = 1e-5;

View columns(Matrix& m, Rows r) { return m.view().column_range(r.first, r.count); }

/// norm_forward by panels: y, rstd, mean.
std::vector<Matrix> forward(Backend& k, const Memory& memory, const Shape& s, Norm kind, bool biased) {
  const Matrix x = memory.input(s.N, s.C, 1), gain = memory.input(1, s.C, 2), bias = memory.input(1, s.C, 3);
  Matrix y = memory.output(s.N, s.C), rstd = memory.output(1, s.N), mean = memory.output(1, s.N);
  k.panels(s.N, [&](Rows r) {
    k.norm_forward({.y = y.view()[r],
                    .rstd = columns(rstd, r),
                    .mean = kind == Norm::layer ? columns(mean, r) : View{},
                    .x = x.view()[r],
                    .gain = gain.view(),
                    .bias = biased ? bias.view() : ConstView{},
                    .kind = kind,
                    .eps = kEps});
  });
  return written(std::move(y), std::move(rstd), std::move(mean));
}

enum class Residual : std::uint8_t { none, other, itself };

/// norm_backward by panels after a forward, partial sums of the panels added up: dx, dgain, dbias, the partials.
std::vector<Matrix> backward(Backend& k, const Memory& memory, const Shape& s, Norm kind, Residual residual) {
  const Matrix x = memory.input(s.N, s.C, 1), gain = memory.input(1, s.C, 2), dy = memory.input(s.N, s.C, 4),
               other = memory.input(s.N, s.C, 5);
  std::vector<Matrix> saved = forward(k, memory, s, kind, false);
  Matrix dx = residual == Residual::itself ? memory.in_out(s.N, s.C, 5) : memory.output(s.N, s.C);
  const ConstView added = residual == Residual::none ? ConstView{} : residual == Residual::other ? other.view() : ConstView(dx.view());
  Matrix dgain = memory.in_out(1, s.C, 6), dbias = memory.in_out(1, s.C, 7);
  const std::int64_t panels = k.traits().panel_count(s.N);
  Matrix gain_partials = memory.output(panels, s.C), bias_partials = memory.output(panels, s.C);
  k.panels(s.N, [&](Rows r) {
    k.norm_backward({.dx = dx.view()[r],
                     .dgain = gain_partials.view().row_range(r.panel, 1),
                     .dbias = bias_partials.view().row_range(r.panel, 1),
                     .dy = dy.view()[r],
                     .residual = added[r],
                     .x = x.view()[r],
                     .rstd = columns(saved[1], r),
                     .mean = kind == Norm::layer ? columns(saved[2], r) : View{},
                     .gain = gain.view(),
                     .kind = kind});
  });
  k.sum_panels({.sum = dgain.view(), .partials = gain_partials.view()});
  k.sum_panels({.sum = dbias.view(), .partials = bias_partials.view()});
  return written(std::move(dx), std::move(dgain), std::move(dbias), std::move(gain_partials), std::move(bias_partials));
}

}  // namespace

TEST_CASE("norm_forward agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes));
  const Norm kind = GENERATE(Norm::rms, Norm::layer);
  const bool biased = GENERATE(false, true);
  CAPTURE(s.N, s.C, static_cast<int>(kind), biased);
  check_conformance("norm", [&](Backend& k, const Memory& memory) { return forward(k, memory, s, kind, biased); });
}

TEST_CASE("norm_backward agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes));
  const Norm kind = GENERATE(Norm::rms, Norm::layer);
  const Residual residual = GENERATE(Residual::none, Residual::other, Residual::itself);
  CAPTURE(s.N, s.C, static_cast<int>(kind), static_cast<int>(residual));
  if (kind == Norm::rms && s.C == 1) return;  // x / |x| is flat: of its derivative only rounding is left, nothing to compare
  check_conformance("norm_backward", [&](Backend& k, const Memory& memory) { return backward(k, memory, s, kind, residual); });
}

TEST_CASE("sum_panels that does not accumulate writes the sum", "[kernels][conformance]") {
  check_conformance("sum_panels", [&](Backend& k, const Memory& memory) {
    const Matrix partials = memory.input(9, 33, 1);
    Matrix sum = memory.output(1, 33);
    k.sum_panels({.sum = sum.view(), .partials = partials.view(), .accumulate = false});
    return written(std::move(sum));
  });
}

TEST_CASE("sum_panels adds any number of partials to what is there", "[kernels][conformance]") {
  const std::int64_t panels = GENERATE(1, 2, 3, 8, 9), C = GENERATE(1, 33, 160);
  CAPTURE(panels, C);
  check_conformance("sum_panels", [&](Backend& k, const Memory& memory) {
    const Matrix partials = memory.input(panels, C, 1);
    Matrix sum = memory.in_out(1, C, 2);
    k.sum_panels({.sum = sum.view(), .partials = partials.view()});
    return written(std::move(sum));
  });
}

TEST_CASE("norm saves nothing and sums nothing that is not asked for", "[kernels]") {
  const TestedBackend tested;
  ReferenceBackend reference;
  const Norm kind = GENERATE(Norm::rms, Norm::layer);
  for (Backend* k : {&*tested, static_cast<Backend*>(&reference)}) {
    CAPTURE(k->name());
    const Memory memory{k->dtype(), 5};
    const Matrix x = memory.input(3, 33, 1), gain = memory.input(1, 33, 2);
    Matrix y = memory.output(3, 33);
    k->norm_forward({.y = y.view(), .rstd = {}, .mean = {}, .x = x.view(), .gain = gain.view(), .bias = {}, .kind = kind, .eps = kEps});
    std::vector<Matrix> whole = forward(*k, memory, {3, 33}, kind, false);
    CHECK(y.same_bits(whole[0]));
    Matrix dx = memory.output(3, 33);
    k->norm_backward({.dx = dx.view(),
                      .dgain = {},
                      .dbias = {},
                      .dy = x.view(),
                      .residual = {},
                      .x = x.view(),
                      .rstd = whole[1].view(),
                      .mean = kind == Norm::layer ? whole[2].view() : View{},
                      .gain = gain.view(),
                      .kind = kind});
    CHECK(std::isfinite(dot(dx, dx)));
    CHECK(dx.canary_intact());
  }
}

TEST_CASE("backward of norm is its derivative", "[kernels][gradient]") {
  const Norm kind = GENERATE(Norm::rms, Norm::layer);
  CAPTURE(static_cast<int>(kind));
  const Memory memory;
  ReferenceBackend k;
  const Shape s{3, 5};
  Matrix x = memory.input(s.N, s.C, 1), gain = memory.input(1, s.C, 2), bias = memory.input(1, s.C, 3);
  const Matrix dy = memory.input(s.N, s.C, 4), residual = memory.input(s.N, s.C, 5);
  Matrix y = memory.output(s.N, s.C), rstd = memory.output(1, s.N), mean = memory.output(1, s.N);
  const auto loss = [&] {  // the residual carries x on unchanged
    k.norm_forward({.y = y.view(),
                    .rstd = rstd.view(),
                    .mean = mean.view(),
                    .x = x.view(),
                    .gain = gain.view(),
                    .bias = bias.view(),
                    .kind = kind,
                    .eps = kEps});
    return dot(y, dy) + dot(x, residual);
  };
  loss();
  if (kind == Norm::rms) mean = Matrix(1, s.N, s.N, DType::float64, 0, kOutputMark);
  Matrix dx = memory.output(s.N, s.C), dgain = memory.output(1, s.C), dbias = memory.output(1, s.C);
  k.norm_backward({.dx = dx.view(),
                   .dgain = dgain.view(),
                   .dbias = dbias.view(),
                   .dy = dy.view(),
                   .residual = residual.view(),
                   .x = x.view(),
                   .rstd = rstd.view(),
                   .mean = mean.view(),
                   .gain = gain.view(),
                   .kind = kind});
  const Tolerance allowed = tolerance("finite_difference", DType::float64);
  CHECK_THAT(dx, near(finite_difference(x, loss), allowed));
  CHECK_THAT(dgain, near(finite_difference(gain, loss), allowed));
  CHECK_THAT(dbias, near(finite_difference(bias, loss), allowed));
}

TEST_CASE("norm of rows of zeros, of huge and of NaN elements", "[kernels][extreme]") {
  const TestedBackend tested;
  const Norm kind = GENERATE(Norm::rms, Norm::layer);
  const Memory memory{DType::float32, 5};
  Matrix x = memory.input(4, 33, 1), y = memory.output(4, 33), rstd = memory.output(1, 4), mean = memory.output(1, 4);
  const Matrix gain = memory.input(1, 33, 2);
  for (std::int64_t c = 0; c < 33; ++c) {
    x.set(0, c, 0);
    x.set(1, c, 1e15 * x.at(1, c));  // squares of 1e15 are far from the largest float32
  }
  x.set(2, 32, kInputMark);
  tested->norm_forward(
      {.y = y.view(), .rstd = rstd.view(), .mean = mean.view(), .x = x.view(), .gain = gain.view(), .bias = {}, .kind = kind, .eps = kEps});
  CHECK(rstd.at(0, 0) == Approx(1 / std::sqrt(kEps)));
  for (std::int64_t c = 0; c < 33; ++c) {
    CHECK(y.at(0, c) == 0);
    CHECK(std::abs(y.at(1, c)) < 33);
    CHECK(std::isnan(y.at(2, c)));
    CHECK(std::isfinite(y.at(3, c)));
  }
}

}  // namespace elastiform
