#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/finite_difference.hpp"
#include "tests/support/near.hpp"

namespace elastiform {
namespace {

struct Shape {
  std::int64_t N, C;
};
const std::vector<Shape> kShapes = {{1, 1}, {1, 33}, {3, 7}, {17, 160}, {256, 33}, {300, 96}};
constexpr double kScale = -0.75;

/// Gains and shifts: absent, one number, or a number a column.
enum class Given : std::uint8_t { none, one, columns };

Matrix given(const Memory& memory, Given which, std::int64_t C, std::uint64_t stream) {
  return memory.input(1, which == Given::one ? 1 : C, stream);
}
ConstView view_if(const Matrix& m, Given which) { return which == Given::none ? ConstView{} : m.view(); }

}  // namespace

TEST_CASE("affine_forward agrees with float64 and a slice with its dense copy", "[kernels][conformance][affine]") {
  const Shape s = GENERATE(from_range(kShapes));
  const Given gained = GENERATE(Given::none, Given::one, Given::columns), shifted = GENERATE(Given::none, Given::one, Given::columns);
  const bool added = GENERATE(false, true), in_place = GENERATE(false, true);
  CAPTURE(s.N, s.C, static_cast<int>(gained), static_cast<int>(shifted), added, in_place);
  check_conformance("affine", [&](Backend& k, const Memory& memory) {
    const Matrix gain = given(memory, gained, s.C, 2), shift = given(memory, shifted, s.C, 3), add = memory.input(s.N, s.C, 4);
    Matrix x = memory.in_out(s.N, s.C, 1), y = memory.output(s.N, s.C);
    const View to = in_place ? x.view() : y.view();
    k.panels(s.N, [&](Rows r) {
      k.affine_forward({.y = to[r],
                        .x = x.view()[r],
                        .gain = view_if(gain, gained),
                        .shift = view_if(shift, shifted),
                        .add = added ? add.view()[r] : ConstView{},
                        .scale = kScale});
    });
    return written(std::move(x), std::move(y));
  });
}

TEST_CASE("affine_backward agrees with float64, its sums added up to a row or to one number", "[kernels][conformance][affine]") {
  const Shape s = GENERATE(from_range(kShapes));
  const Given gained = GENERATE(Given::none, Given::one, Given::columns);
  const bool added = GENERATE(false, true), in_place = GENERATE(false, true), sums_only = GENERATE(false, true);
  CAPTURE(s.N, s.C, static_cast<int>(gained), added, in_place, sums_only);
  check_conformance("affine", [&](Backend& k, const Memory& memory) {
    const Matrix gain = given(memory, gained, s.C, 2), x = memory.input(s.N, s.C, 1), add = memory.input(s.N, s.C, 4);
    Matrix dy = memory.in_out(s.N, s.C, 5), dx = memory.output(s.N, s.C);
    const std::int64_t panels = k.traits().panel_count(s.N);
    Matrix gains = memory.output(panels, s.C), shifts = memory.output(panels, s.C);
    Matrix dgain = memory.in_out(1, gained == Given::one ? 1 : s.C, 6), dshift = memory.in_out(1, 1, 7);
    const View to = in_place ? dy.view() : dx.view();
    k.panels(s.N, [&](Rows r) {
      k.affine_backward({.dx = sums_only ? View{} : to[r],
                         .dgain = gains.view().row_range(r.panel, 1),
                         .dshift = shifts.view().row_range(r.panel, 1),
                         .dy = dy.view()[r],
                         .x = x.view()[r],
                         .gain = view_if(gain, gained),
                         .add = added ? add.view()[r] : ConstView{},
                         .scale = kScale});
    });
    k.sum_panels({.sum = dgain.view(), .partials = gains.view()});
    k.sum_panels({.sum = dshift.view(), .partials = shifts.view()});
    return written(std::move(dy), std::move(dx), std::move(dgain), std::move(dshift), std::move(gains), std::move(shifts));
  });
}

TEST_CASE("affine operations over matrices that are stored in bfloat16 round what they do in float32", "[kernels][bf16][affine]") {
  const Shape s = GENERATE(from_range(kShapes));
  CAPTURE(s.N, s.C);
  check_stored_operands([&](Backend& k, const Memory& memory) {
    const Matrix x = memory.operand(s.N, s.C, 1), whole = memory.input(s.N, s.C, 2), shift = memory.input(1, 1, 3);
    Matrix y = memory.operand_output(s.N, s.C), narrowed = memory.operand_output(s.N, s.C), dshift = memory.output(1, s.C);
    k.affine_forward({.y = y.view(), .x = x.view(), .gain = {}, .shift = shift.view(), .add = {}});
    k.affine_forward({.y = narrowed.view(), .x = whole.view(), .gain = {}, .shift = shift.view(), .add = {}});
    k.affine_backward({.dx = {}, .dgain = {}, .dshift = dshift.view(), .dy = x.view(), .x = {}, .gain = {}, .add = {}});
    return written(std::move(y), std::move(narrowed), std::move(dshift));
  });
}

TEST_CASE("backward of affine is its derivative", "[kernels][gradient][affine]") {
  const Given gained = GENERATE(Given::one, Given::columns);
  const Memory memory;
  ReferenceBackend k;
  Matrix x = memory.input(3, 5, 1), gain = given(memory, gained, 5, 2), shift = given(memory, gained, 5, 3);
  const Matrix dy = memory.input(3, 5, 4), residual = memory.input(3, 5, 5);
  Matrix y = memory.output(3, 5);
  const auto loss = [&] {  // the residual carries x on unchanged
    k.affine_forward({.y = y.view(), .x = x.view(), .gain = gain.view(), .shift = shift.view(), .add = {}, .scale = kScale});
    return dot(y, dy) + dot(x, residual);
  };
  Matrix dx = memory.output(3, 5), gains = memory.output(1, 5), shifts = memory.output(1, 5);
  k.affine_backward({.dx = dx.view(),
                     .dgain = gains.view(),
                     .dshift = shifts.view(),
                     .dy = dy.view(),
                     .x = x.view(),
                     .gain = gain.view(),
                     .add = residual.view(),
                     .scale = kScale});
  Matrix dgain = memory.output(1, gain.columns()), dshift = memory.output(1, shift.columns());
  k.sum_panels({.sum = dgain.view(), .partials = gains.view(), .accumulate = false});
  k.sum_panels({.sum = dshift.view(), .partials = shifts.view(), .accumulate = false});
  const Tolerance allowed = tolerance("finite_difference", DType::float64);
  CHECK_THAT(dx, near(finite_difference(x, loss), allowed));
  CHECK_THAT(dgain, near(finite_difference(gain, loss), allowed));
  CHECK_THAT(dshift, near(finite_difference(shift, loss), allowed));
}

}  // namespace elastiform
