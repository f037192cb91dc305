#include <algorithm>
#include <cmath>

#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/finite_difference.hpp"
#include "tests/support/near.hpp"

namespace elastiform {
namespace {

struct Shape {
  std::int64_t N, F;
};
const std::vector<Shape> kShapes = {{1, 1}, {1, 33}, {3, 7}, {17, 160}, {256, 33}, {300, 96}};
constexpr double kStretch = 4;  // normal values times this reach both tails

Matrix stretched(Matrix m) {
  m.map([](double e) { return kStretch * e; });
  return m;
}

enum class Into : std::uint8_t { own, first_is_dy, second_is_dy, first_is_gate_second_is_dy };

}  // namespace

TEST_CASE("swiglu agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes));
  const Into into = GENERATE(Into::own, Into::first_is_dy, Into::second_is_dy, Into::first_is_gate_second_is_dy);
  CAPTURE(s.N, s.F, static_cast<int>(into));
  check_conformance("swiglu", [&](Backend& k, const Memory& memory) {
    Matrix gate = stretched(memory.in_out(s.N, s.F, 1));
    const Matrix up = memory.input(s.N, s.F, 2);
    Matrix y = memory.output(s.N, s.F), dy = memory.in_out(s.N, s.F, 3), dgate = memory.output(s.N, s.F), dup = memory.output(s.N, s.F);
    const bool in_gate = into == Into::first_is_gate_second_is_dy;
    const View to_gate = into == Into::first_is_dy ? dy.view() : in_gate ? gate.view() : dgate.view();
    const View to_up = into == Into::second_is_dy || in_gate ? dy.view() : dup.view();
    k.panels(s.N, [&](Rows r) {
      k.swiglu_forward({.y = y.view()[r], .gate = gate.view()[r], .up = up.view()[r]});
      k.swiglu_backward({.dgate = to_gate[r], .dup = to_up[r], .dy = dy.view()[r], .gate = gate.view()[r], .up = up.view()[r]});
    });
    return written(std::move(y), std::move(dy), std::move(gate), std::move(dgate), std::move(dup));
  });
}

TEST_CASE("swiglu, gelu, rope and norm over matrices that are stored in bfloat16 round what they do in float32", "[kernels][bf16]") {
  const Shape s = GENERATE(from_range(kShapes));
  CAPTURE(s.N, s.F);
  check_stored_operands([&](Backend& k, const Memory& memory) {
    const Matrix gate = stretched(memory.operand(s.N, s.F, 1)), up = memory.operand(s.N, s.F, 2), dy = memory.operand(s.N, s.F, 3);
    Matrix y = memory.operand_output(s.N, s.F), dgate = memory.operand_output(s.N, s.F), dup = memory.operand_output(s.N, s.F);
    Matrix gelu = memory.operand_output(s.N, s.F), dx = memory.operand_output(s.N, s.F), normed = memory.operand_output(s.N, s.F);
    Matrix turned = memory.operand(s.N, 2 * s.F, 4);
    const Matrix angles = memory.input(s.N, s.F, 5), x = memory.input(s.N, s.F, 6), gain = memory.input(1, s.F, 7);
    k.panels(s.N, [&](Rows r) {
      k.swiglu_forward({.y = y.view()[r], .gate = gate.view()[r], .up = up.view()[r]});
      k.swiglu_backward({.dgate = dgate.view()[r], .dup = dup.view()[r], .dy = dy.view()[r], .gate = gate.view()[r], .up = up.view()[r]});
      k.gelu_forward({.y = gelu.view()[r], .x = gate.view()[r]});
      k.gelu_backward({.dx = dx.view()[r], .dy = dy.view()[r], .x = gate.view()[r]});
      k.rope({.x = turned.view()[r], .cosine = angles.view(), .sine = angles.view(), .first_row = r.first, .period = s.N});
      k.norm_forward({.y = normed.view()[r], .rstd = {}, .mean = {}, .x = x.view()[r], .gain = gain.view(), .bias = {}});
    });
    return written(std::move(y), std::move(dgate), std::move(dup), std::move(gelu), std::move(dx), std::move(turned), std::move(normed));
  });
}

TEST_CASE("hadamard agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes));
  const bool one_row = GENERATE(false, true), in_place = GENERATE(false, true);
  CAPTURE(s.N, s.F, one_row, in_place);
  check_conformance("hadamard", [&](Backend& k, const Memory& memory) {
    Matrix a = memory.in_out(s.N, s.F, 1), y = memory.output(s.N, s.F);
    const Matrix b = memory.input(one_row ? 1 : s.N, s.F, 2);
    k.panels(s.N,
             [&](Rows r) { k.hadamard({.y = (in_place ? a : y).view()[r], .a = a.view()[r], .b = one_row ? b.view() : b.view()[r]}); });
    return written(std::move(y), std::move(a));
  });
}

TEST_CASE("hadamard reads an operand that is stored in bfloat16", "[kernels][bf16]") {
  const Shape s = GENERATE(from_range(kShapes));
  CAPTURE(s.N, s.F);
  check_stored_operands([&](Backend& k, const Memory& memory) {
    const Matrix a = memory.operand(s.N, s.F, 1), b = memory.input(1, s.F, 2);
    Matrix y = memory.output(s.N, s.F);
    k.panels(s.N, [&](Rows r) { k.hadamard({.y = y.view()[r], .a = a.view()[r], .b = b.view()}); });
    return written(std::move(y));
  });
}

TEST_CASE("gelu agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes));
  const Gelu kind = GENERATE(Gelu::tanh, Gelu::erf);
  const bool in_place = GENERATE(false, true);
  CAPTURE(s.N, s.F, static_cast<int>(kind), in_place);
  check_conformance("gelu", [&](Backend& k, const Memory& memory) {
    const Matrix x = stretched(memory.input(s.N, s.F, 1));
    Matrix y = memory.output(s.N, s.F), dy = memory.in_out(s.N, s.F, 3), dx = memory.output(s.N, s.F);
    const View to = in_place ? dy.view() : dx.view();
    k.panels(s.N, [&](Rows r) {
      k.gelu_forward({.y = y.view()[r], .x = x.view()[r], .kind = kind});
      k.gelu_backward({.dx = to[r], .dy = dy.view()[r], .x = x.view()[r], .kind = kind});
    });
    return written(std::move(y), std::move(dy), std::move(dx));
  });
}

TEST_CASE("activations are their derivatives' integrals", "[kernels][gradient]") {
  const Memory memory;
  ReferenceBackend k;
  Matrix x = stretched(memory.input(3, 7, 1)), up = memory.input(3, 7, 2), y = memory.output(3, 7);
  const Matrix dy = memory.input(3, 7, 3);
  const Tolerance allowed = tolerance("finite_difference", DType::float64);
  Matrix dx = memory.output(3, 7), dup = memory.output(3, 7);
  SECTION("swiglu") {
    const auto loss = [&] {
      k.swiglu_forward({.y = y.view(), .gate = x.view(), .up = up.view()});
      return dot(y, dy);
    };
    k.swiglu_backward({.dgate = dx.view(), .dup = dup.view(), .dy = dy.view(), .gate = x.view(), .up = up.view()});
    CHECK_THAT(dx, near(finite_difference(x, loss), allowed));
    CHECK_THAT(dup, near(finite_difference(up, loss), allowed));
  }
  SECTION("gelu") {
    const Gelu kind = GENERATE(Gelu::tanh, Gelu::erf);
    const auto loss = [&] {
      k.gelu_forward({.y = y.view(), .x = x.view(), .kind = kind});
      return dot(y, dy);
    };
    k.gelu_backward({.dx = dx.view(), .dy = dy.view(), .x = x.view(), .kind = kind});
    CHECK_THAT(dx, near(finite_difference(x, loss), allowed));
  }
}

TEST_CASE("activations of huge inputs are exact limits, and NaN passes through", "[kernels][extreme]") {
  const TestedBackend tested;
  const Memory memory{DType::float32, 5};
  const double huge[] = {-1e15, -1e4, -200, 0, 200, 1e4, 1e15};
  Matrix x = memory.in_out(1, 8, 1), y = memory.output(1, 8), dx = memory.output(1, 8), dup = memory.output(1, 8);
  Matrix ones(1, 8, 8, DType::float32, 1, kInputMark);
  for (std::int64_t i = 0; i < 7; ++i) x.set(0, i, huge[i]);
  x.set(0, 7, kInputMark);
  const auto check_limits = [&] {
    for (std::int64_t i = 0; i < 7; ++i) {
      CAPTURE(huge[i]);
      CHECK(y.at(0, i) == Approx(std::max(huge[i], 0.0)).margin(1e-30));
      CHECK(dx.at(0, i) == Approx(huge[i] == 0 ? 0.5 : huge[i] > 0 ? 1.0 : 0.0).margin(1e-30));
    }
    CHECK(std::isnan(y.at(0, 7)));
    CHECK(std::isnan(dx.at(0, 7)));
  };
  SECTION("swiglu") {
    tested->swiglu_forward({.y = y.view(), .gate = x.view(), .up = ones.view()});
    tested->swiglu_backward({.dgate = dx.view(), .dup = dup.view(), .dy = ones.view(), .gate = x.view(), .up = ones.view()});
    check_limits();
  }
  SECTION("gelu") {
    const Gelu kind = GENERATE(Gelu::tanh, Gelu::erf);
    CAPTURE(static_cast<int>(kind));
    tested->gelu_forward({.y = y.view(), .x = x.view(), .kind = kind});
    tested->gelu_backward({.dx = dx.view(), .dy = ones.view(), .x = x.view(), .kind = kind});
    check_limits();
  }
}

}  // namespace elastiform
