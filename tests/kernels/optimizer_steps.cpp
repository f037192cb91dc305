#include <cmath>
#include <span>

#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/near.hpp"
#include "tests/support/vectors.hpp"

namespace elastiform {
namespace {

struct Shape {
  std::int64_t rows, columns;
};
const std::vector<Shape> kShapes = {{1, 1}, {3, 7}, {1, 96}, {17, 33}, {300, 160}};

Matrix squared(Matrix m) {
  m.map([](double e) { return static_cast<double>(static_cast<float>(e * e)); });
  return m;
}

Matrix row_of(const StepSquares& squares, const Memory& memory) {
  Matrix row(1, 2, 2, memory.dtype, 0, kOutputMark);
  row.set(0, 0, squares.weight);
  row.set(0, 1, squares.direction);
  return row;
}

}  // namespace

TEST_CASE("momentum_step agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes));
  const bool graded = GENERATE(true, false);
  const std::string rule = GENERATE("sgd", "nesterov", "lion", "lars");
  CAPTURE(s.rows, s.columns, graded, rule);
  MomentumStep step;
  step.rate = 1e-2, step.decay = 0.1, step.gradient_scale = 0.25;
  if (rule == "nesterov") step.direction_moment = 0.81, step.direction_gradient = 1.9;
  if (rule == "lars") step.decay = 0, step.coupled_decay = 0.1;
  if (rule == "lion") step.sign = true, step.direction_gradient = 0.1, step.keep = 0.99, step.take = 0.01;
  check_conformance("momentum_step", [&](Backend& k, const Memory& memory) {
    Matrix weight = memory.in_out(s.rows, s.columns, 1), m = memory.in_out(s.rows, s.columns, 2);
    const Matrix gradient = memory.input(s.rows, s.columns, 3);
    MomentumStep op = step;
    op.weight = weight.view(), op.m = m.view();
    if (graded) op.gradient = gradient.view();
    k.momentum_step(op);
    return written(std::move(weight), std::move(m));
  });
}

TEST_CASE("a sign of nothing is zero", "[kernels][extreme]") {
  const TestedBackend tested;
  const Memory memory{DType::float32, 5};
  Matrix weight = memory.in_out(3, 33, 1), m(3, 33, 38, DType::float32, 0, kOutputMark);
  const Matrix before = weight;
  tested->momentum_step({.weight = weight.view(), .m = m.view(), .gradient = {}, .rate = 1, .sign = true});
  CHECK(weight.same_bits(before));
}

TEST_CASE("adamw_directions moves moments, writes directions and agrees with float64", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes));
  CAPTURE(s.rows, s.columns);
  check_conformance("adamw_direction", [&](Backend& k, const Memory& memory) {
    const Matrix weight = memory.input(s.rows, s.columns, 1);
    Matrix m = memory.in_out(s.rows, s.columns, 2), v = squared(memory.in_out(s.rows, s.columns, 3)),
           gradient = memory.in_out(s.rows, s.columns, 4);
    const AdamwDirection op{.weight = weight.view(),
                            .m = m.view(),
                            .v = v.view(),
                            .gradient = gradient.view(),
                            .decay = 0.1,
                            .correction1 = 1 - std::pow(0.9, 3),
                            .correction2 = 1 - std::pow(0.95, 3),
                            .gradient_scale = 0.25};
    StepSquares squares;
    k.adamw_directions(std::span(&op, 1), std::span(&squares, 1));
    return written(std::move(m), std::move(v), std::move(gradient), row_of(squares, memory));
  });
}

TEST_CASE("a direction taken with the rate is an AdamW step", "[kernels]") {
  const TestedBackend tested;
  const Memory memory{DType::float32, 5};
  Matrix together = memory.in_out(17, 33, 1), apart = together, m1 = memory.in_out(17, 33, 2), m2 = m1,
         v1 = squared(memory.in_out(17, 33, 3)), v2 = v1, gradient = memory.in_out(17, 33, 4);
  tested->adamw(
      {.weight = together.view(), .m = m1.view(), .v = v1.view(), .gradient = std::as_const(gradient).view(), .rate = 1e-3, .decay = 0.1});
  const AdamwDirection op{.weight = std::as_const(apart).view(), .m = m2.view(), .v = v2.view(), .gradient = gradient.view(), .decay = 0.1};
  StepSquares squares;
  tested->adamw_directions(std::span(&op, 1), std::span(&squares, 1));
  tested->add(apart.view(), std::as_const(gradient).view(), -1e-3);
  CHECK_THAT(apart, near(together, tolerance("adamw", DType::float32)));
  CHECK(m2.same_bits(m1));
  CHECK(v2.same_bits(v1));
}

TEST_CASE("factored moments, steps and squares agree with float64", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes), Shape{2, 4097}, Shape{300, 600});
  CAPTURE(s.rows, s.columns);
  check_conformance("factored", [&](Backend& k, const Memory& memory) {
    const Memory tight{memory.dtype, 0};
    Matrix weight = memory.in_out(s.rows, s.columns, 1), row = squared(tight.in_out(1, s.rows, 2)),
           column = squared(tight.in_out(1, s.columns, 3));
    const Matrix gradient = memory.input(s.rows, s.columns, 4);
    k.factored_moments(
        {.row = row.view(), .column = column.view(), .gradient = gradient.view(), .beta2 = 0.4, .eps = 1e-30, .gradient_scale = 0.25});
    const FactoredStep step{.weight = weight.view(),
                            .row = row.view(),
                            .column = column.view(),
                            .gradient = gradient.view(),
                            .rate = 1e-2,
                            .decay = 0.01,
                            .mean_row = 0.7,
                            .gradient_scale = 0.25};
    StepSquares squares;
    k.factored_squares(std::span(&step, 1), std::span(&squares, 1));
    k.factored_step(step);
    return written(std::move(weight), std::move(row), std::move(column), row_of(squares, memory));
  });
}

namespace {

/// Weight, moments in codes, scales and gradient of an 8-bit step.
struct Coded {
  Matrix weight, m, v, m_scale, v_scale, gradient;
  Coded(const Shape& s, const Memory& memory)
      : weight(memory.in_out(s.rows, s.columns, 1)), m(codes(s, memory, 2)), v(codes(s, memory, 3)), m_scale(scales(s, memory, 4)),
        v_scale(squared(scales(s, memory, 5))), gradient(memory.input(s.rows, s.columns, 6)) {}
  void step(Backend& k, bool graded = true) {
    k.adamw_8bit({.weight = weight.view(),
                  .m = m.view(),
                  .v = v.view(),
                  .m_scale = m_scale.view(),
                  .v_scale = v_scale.view(),
                  .gradient = graded ? std::as_const(gradient).view() : ConstView{},
                  .rate = 1e-3,
                  .decay = 0.1,
                  .correction1 = 0.3,
                  .correction2 = 0.2,
                  .gradient_scale = 0.25});
  }

 private:
  static Matrix codes(const Shape& s, const Memory& memory, std::uint64_t stream) {
    Matrix result(s.rows, s.columns, s.columns + memory.padding, DType::uint8, 0, kOutputMark);
    RandomStream random(stream, Purpose::test);
    result.map([&](double) { return static_cast<double>(random.below(256)); });
    return result;
  }
  static Matrix scales(const Shape& s, const Memory& memory, std::uint64_t stream) {
    return Memory{memory.dtype, 0}.in_out(1, CodeBlocks(s.rows, s.columns).count(), stream);
  }
};
const std::vector<Shape> kCodedShapes = {{1, 1}, {3, 7}, {1, 256}, {17, 33}, {5, 600}, {300, 160}};

}  // namespace

TEST_CASE("adamw_8bit agrees with float64", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kCodedShapes));
  const bool graded = GENERATE(true, false);
  CAPTURE(s.rows, s.columns, graded);
  check_conformance("adamw_8bit", [&](Backend& k, const Memory& memory) {
    Coded coded(s, memory);
    coded.step(k, graded);
    return written(std::move(coded.weight), std::move(coded.m_scale), std::move(coded.v_scale));
  });
  check_conformance("adamw_8bit codes", [&](Backend& k, const Memory& memory) {
    Coded coded(s, memory);
    coded.step(k, graded);
    CHECK(coded.m.canary_intact());
    return written(std::move(coded.m), std::move(coded.v));
  });
}

TEST_CASE("a rectangle cut at its blocks has the codes of the whole", "[kernels]") {
  const TestedBackend tested;
  const Memory memory{DType::float32, 5};
  const Shape s{40, 33};  // blocks of 7 rows
  Coded whole(s, memory), cut(s, memory);
  whole.step(*tested);
  for (std::int64_t first = 0, block = 0; first < s.rows; first += 14) {
    const std::int64_t rows = std::min<std::int64_t>(14, s.rows - first), blocks = CodeBlocks(rows, s.columns).count();
    tested->adamw_8bit({.weight = cut.weight.view().row_range(first, rows),
                        .m = cut.m.view().row_range(first, rows),
                        .v = cut.v.view().row_range(first, rows),
                        .m_scale = cut.m_scale.view().column_range(block, blocks),
                        .v_scale = cut.v_scale.view().column_range(block, blocks),
                        .gradient = std::as_const(cut.gradient).view().row_range(first, rows),
                        .rate = 1e-3,
                        .decay = 0.1,
                        .correction1 = 0.3,
                        .correction2 = 0.2,
                        .gradient_scale = 0.25});
    block += blocks;
  }
  CHECK(cut.weight.same_bits(whole.weight));
  CHECK(cut.m.same_bits(whole.m));
  CHECK(cut.v.same_bits(whole.v));
  CHECK(cut.m_scale.same_bits(whole.m_scale));
}

TEST_CASE("8-bit moments: the largest element is kept as it is, and no v above 0 becomes 0", "[kernels][extreme]") {
  const TestedBackend tested;
  const double sign = GENERATE(1, -1);
  Matrix weight(1, 4, 4, DType::float32, 0, kOutputMark), m(1, 4, 4, DType::uint8, 0, kOutputMark),
      v = m, m_scale(1, 1, 1, DType::float32, 0, kOutputMark), v_scale = m_scale;
  Matrix gradient = weight;
  gradient.set(0, 0, sign * 0.75), gradient.set(0, 1, -sign * 0.5), gradient.set(0, 2, 1e-6);
  const auto step = [&](ConstView g, double beta) {
    tested->adamw_8bit({.weight = weight.view(),
                        .m = m.view(),
                        .v = v.view(),
                        .m_scale = m_scale.view(),
                        .v_scale = v_scale.view(),
                        .gradient = g,
                        .beta1 = beta,
                        .beta2 = beta});
  };
  step(std::as_const(gradient).view(), 0);
  CHECK(m_scale.at(0, 0) == sign * 0.75);
  CHECK(m.at(0, 0) == 255);
  CHECK(v.at(0, 0) == 255);
  CHECK(v.at(0, 2) == 1);
  CHECK(v.at(0, 3) == 0);
  CHECK(m.at(0, 3) == kZeroCode);
  const Matrix m_before = m, v_before = v;
  for (int i = 0; i < 100; ++i) step({}, 1);  // coded again a hundred times: nothing drifts, nothing shrinks
  CHECK(m.same_bits(m_before));
  CHECK(v.same_bits(v_before));
  CHECK(m_scale.at(0, 0) == sign * 0.75);
}

TEST_CASE("vector dynamic_map_8bit: the map, and the codes of a block", "[kernels][vectors]") {
  const nlohmann::json& v = vector("dynamic_map_8bit");
  const auto check_ends = [&](const std::array<double, kCodes>& map, const char* first, const char* last, const char* sum) {
    double total = 0;
    for (const double x : map) total += x;
    CHECK(total == Approx(v[sum].get<double>()).epsilon(1e-6));
    for (std::size_t i = 0; i < 5; ++i) {
      CHECK(map[i] == Approx(v[first][i].get<double>()).epsilon(1e-6));
      CHECK(map[251 + i] == Approx(v[last][i].get<double>()).epsilon(1e-6));
    }
  };
  check_ends(signed_map(), "signed_first5", "signed_last5", "signed_sum");
  check_ends(unsigned_map(), "unsigned_first5", "unsigned_last5", "unsigned_sum");
  for (std::size_t i = 0; i < 8; ++i)
    CHECK(signed_map()[kZeroCode - 3 + i] == Approx(v["signed_around_zero"][i].get<double>()).epsilon(1e-6));

  // With β1 = 0 the moment is the gradient, with β2 = 0 its square.
  const TestedBackend tested;
  const auto coded = [&](const nlohmann::json& block, bool is_signed, Matrix& scale) {
    const auto n = static_cast<std::int64_t>(block.size());
    Matrix gradient(1, n, n, DType::float32, 0, kInputMark), weight(1, n, n, DType::float32, 0, kOutputMark), other = scale;
    Matrix codes(1, n, n, DType::uint8, 0, kOutputMark), others = codes;
    for (std::int64_t i = 0; i < n; ++i) {
      const double x = block[static_cast<std::size_t>(i)];
      gradient.set(0, i, is_signed ? x : std::sqrt(x));
    }
    tested->adamw_8bit({.weight = weight.view(),
                        .m = is_signed ? codes.view() : others.view(),
                        .v = is_signed ? others.view() : codes.view(),
                        .m_scale = is_signed ? scale.view() : other.view(),
                        .v_scale = is_signed ? other.view() : scale.view(),
                        .gradient = std::as_const(gradient).view(),
                        .beta1 = 0,
                        .beta2 = 0});
    return codes;
  };
  const auto check_block = [&](const char* block, const char* expected, bool is_signed) {
    const std::array<double, kCodes>& map = is_signed ? signed_map() : unsigned_map();
    Matrix scale(1, 1, 1, DType::float32, 0, kOutputMark);
    const Matrix codes = coded(v[block], is_signed, scale);
    const double largest = v[expected]["absmax"];
    CHECK(scale.at(0, 0) == Approx(largest).epsilon(1e-6));
    for (std::size_t i = 0; i < v[block].size(); ++i) {
      CAPTURE(block, i);
      const double x = v[block][i];
      const int nearest = nearest_code(map, x / largest), code = static_cast<int>(codes.at(0, static_cast<std::int64_t>(i)));
      CHECK(nearest == v[expected]["idx"][i].get<int>());
      CHECK(code == (!is_signed && x > 0 ? std::max(1, nearest) : nearest));  // ours keeps a v above 0 above 0
      CHECK(map[static_cast<std::size_t>(nearest)] * largest == Approx(v[expected]["dequant"][i].get<double>()).epsilon(1e-6));
    }
  };
  check_block("block", "expected", true);
  check_block("block_unsigned", "expected_unsigned", false);
}

TEST_CASE("every number of the map has its own code", "[kernels]") {
  const TestedBackend tested;
  Matrix m(1, kCodes, kCodes, DType::uint8, 0, kOutputMark), v = m, weight(1, kCodes, kCodes, DType::float32, 0, kOutputMark);
  Matrix m_scale(1, 1, 1, DType::float32, 1.5, kOutputMark), v_scale = m_scale;
  for (std::int64_t i = 0; i < kCodes; ++i) m.set(0, i, static_cast<double>(i)), v.set(0, i, static_cast<double>(i));
  const Matrix before = m;
  tested->adamw_8bit({.weight = weight.view(),
                      .m = m.view(),
                      .v = v.view(),
                      .m_scale = m_scale.view(),
                      .v_scale = v_scale.view(),
                      .gradient = {},
                      .beta1 = 1,
                      .beta2 = 1});
  CHECK(m.same_bits(before));
  CHECK(v.same_bits(before));
}

TEST_CASE("add with a factor and multiply agree with float64", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes));
  CAPTURE(s.rows, s.columns);
  check_conformance("add", [&](Backend& k, const Memory& memory) {
    Matrix sum = memory.in_out(s.rows, s.columns, 1), product = memory.in_out(s.rows, s.columns, 2);
    const Matrix x = memory.input(s.rows, s.columns, 3);
    k.add(sum.view(), x.view(), -0.375);
    k.multiply(product.view(), x.view());
    return written(std::move(sum), std::move(product));
  });
}

}  // namespace elastiform
