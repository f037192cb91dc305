#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/finite_difference.hpp"
#include "tests/support/near.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/support/vectors.hpp"

namespace elastiform {
namespace {

enum class Add : std::uint8_t { none, other, itself };

struct Shape {
  std::int64_t N, I, O;
};
// Minimal, odd, one full panel, a panel and a part; the last three are longer than a block of any kernel in I or in O, the very last with
// weights that panels share.
const std::vector<Shape> kAllShapes = {{1, 1, 1},      {1, 33, 7},   {3, 7, 33},     {17, 96, 160},  {256, 33, 96},
                                       {300, 160, 33}, {300, 96, 1}, {17, 700, 400}, {17, 400, 700}, {260, 450, 410}};
/// Of those in the table; where the tested backend is slow one that is longer than a tile of CUDA in all sizes for those longer than a block.
std::vector<Shape> shapes() {
  const Shape large = TestedBackend::is_slow() ? Shape{140, 270, 150} : Shape{260, 450, 410};
  if (kSanitized) return {{1, 33, 7}, {300, 160, 33}, large};
  if (!TestedBackend::is_slow()) return kAllShapes;
  std::vector<Shape> result = kAllShapes;
  std::erase_if(result, [](const Shape& s) { return std::max(s.I, s.O) >= 400; });
  result.push_back(large);
  return result;
}

Matrix weight(const Memory& memory, const Shape& s, bool transposed) {
  return transposed ? memory.operand(s.O, s.I, 2) : memory.operand(s.I, s.O, 2);
}

void check_product(const std::string& operation, const Case& run) {
  check_conformance(operation.c_str(), run);
  check_bf16_conformance((operation + " bf16").c_str(), run);
}

}  // namespace

TEST_CASE("products worked out by hand: what the float64 backend is judged by, too", "[kernels][conformance]") {
  const bool transposed = GENERATE(false, true), on_reference = GENERATE(false, true);
  CAPTURE(transposed, on_reference);
  const TestedBackend tested;
  ReferenceBackend reference;
  Backend& k = on_reference ? static_cast<Backend&>(reference) : *tested;
  const auto of = [&](const nlohmann::json& values) { return matrix_of(values, k.dtype()); };
  // Small whole numbers: every product and sum is exact in every precision.
  const Matrix x = of({{1, 2}, {3, 4}, {5, 6}}), bias = of({{10, 20, 30}}), dy = of({{1, 0, 2}, {0, 1, 0}, {1, 1, 0}});
  const Matrix w = transposed ? of({{1, 0}, {2, 1}, {3, -1}}) : of({{1, 2, 3}, {0, 1, -1}});
  Matrix y = canary(3, 3, 5, k.dtype()), dx = canary(3, 2, 5, k.dtype()), dbias = of({{100, 200, 300}});
  k.panels(3, [&](Rows r) {
    k.matmul({.y = y.view()[r], .x = x.view()[r], .w = w.view(), .bias = bias.view(), .add = {}, .scale = 2, .transposed = transposed});
    k.matmul_dx({.dx = dx.view()[r], .dy = dy.view()[r], .w = w.view(), .add = {}, .scale = 2, .transposed = transposed});
  });
  CHECK(y.same_bits(of({{22, 48, 62}, {26, 60, 70}, {30, 72, 78}})));
  CHECK(dx.same_bits(of({{14, -4}, {4, 2}, {6, 2}})));
  CHECK(y.canary_intact());
  CHECK(dx.canary_intact());

  Matrix dw = transposed ? of({{1, 1}, {1, 1}, {1, 1}}) : of({{1, 1, 1}, {1, 1, 1}});
  MatmulDw op{.dw = dw.view(), .dbias = dbias.view(), .x = x.view(), .dy = dy.view(), .scale = 2, .transposed = transposed};
  k.matmul_dw(op);
  CHECK(dw.same_bits(transposed ? of({{13, 17}, {17, 21}, {5, 9}}) : of({{13, 17, 5}, {17, 21, 9}})));
  CHECK(dbias.same_bits(of({{104, 204, 304}})));
  op.accumulate = false;
  k.matmul_dw(op);
  CHECK(dw.same_bits(transposed ? of({{12, 16}, {16, 20}, {4, 8}}) : of({{12, 16, 4}, {16, 20, 8}})));
  CHECK(dbias.same_bits(of({{4, 4, 4}})));
}

TEST_CASE("matmul agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(shapes()));
  const bool transposed = GENERATE(false, true);
  const Add add = GENERATE(Add::none, Add::other, Add::itself);
  const bool biased = add != Add::other;
  const double scale = add == Add::none ? 1.0 : 0.35;
  CAPTURE(s.N, s.I, s.O, transposed, static_cast<int>(add));
  check_product("matmul", [&](Backend& k, const Memory& memory) {
    const Matrix x = memory.operand(s.N, s.I, 1), w = weight(memory, s, transposed), bias = memory.input(1, s.O, 3),
                 other = memory.input(s.N, s.O, 4);
    Matrix y = add == Add::itself ? memory.in_out(s.N, s.O, 4) : memory.output(s.N, s.O);
    const ConstView added = add == Add::none ? ConstView{} : add == Add::other ? other.view() : ConstView(y.view());
    k.panels(s.N, [&](Rows r) {
      k.matmul({.y = y.view()[r],
                .x = x.view()[r],
                .w = w.view(),
                .bias = biased ? bias.view() : ConstView{},
                .add = added[r],
                .scale = scale,
                .transposed = transposed});
    });
    return written(std::move(y));
  });
}

TEST_CASE("matmul_dx agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(shapes()));
  const bool transposed = GENERATE(false, true);
  const Add add = GENERATE(Add::none, Add::other, Add::itself);
  const double scale = add == Add::other ? 1.0 : -1.75;
  CAPTURE(s.N, s.I, s.O, transposed, static_cast<int>(add));
  check_product("matmul_dx", [&](Backend& k, const Memory& memory) {
    const Matrix dy = memory.operand(s.N, s.O, 1), w = weight(memory, s, transposed), other = memory.input(s.N, s.I, 4);
    Matrix dx = add == Add::itself ? memory.in_out(s.N, s.I, 4) : memory.output(s.N, s.I);
    const ConstView added = add == Add::none ? ConstView{} : add == Add::other ? other.view() : ConstView(dx.view());
    k.panels(s.N, [&](Rows r) {
      k.matmul_dx({.dx = dx.view()[r], .dy = dy.view()[r], .w = w.view(), .add = added[r], .scale = scale, .transposed = transposed});
    });
    return written(std::move(dx));
  });
}

TEST_CASE("matmul_dw adds to what is there, agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  // The last has more rows than are packed at once.
  const Shape s = GENERATE(from_range(shapes()), Shape{700, 70, 130}, Shape{130, 400, 390}, Shape{1100, 20, 30});
  const bool transposed = GENERATE(false, true);
  const bool biased = GENERATE(false, true);
  CAPTURE(s.N, s.I, s.O, transposed, biased);
  check_product("matmul_dw", [&](Backend& k, const Memory& memory) {
    const Matrix x = memory.operand(s.N, s.I, 1), dy = memory.operand(s.N, s.O, 2), exact_dy = memory.input(s.N, s.O, 2);
    Matrix dw = transposed ? memory.in_out(s.O, s.I, 3) : memory.in_out(s.I, s.O, 3), dbias = memory.in_out(1, s.O, 4);
    const auto add = [&](View dw_view, const Matrix& gradient, View bias) {
      k.matmul_dw({.dw = dw_view, .dbias = bias, .x = x.view(), .dy = gradient.view(), .scale = 0.35, .transposed = transposed});
    };
    // A sum of dy is no product: it is never of rounded values.
    const bool apart = biased && memory.rounds_operands;
    add(dw.view(), dy, biased && !apart ? dbias.view() : View{});
    Matrix other = dw;
    if (apart) add(other.view(), exact_dy, dbias.view());
    return written(std::move(dw), std::move(dbias));
  });
}

TEST_CASE("matmul_dw that does not accumulate writes what it would add to zero", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(shapes()), Shape{1100, 20, 30}, Shape{130, 400, 390});
  const bool transposed = GENERATE(false, true);
  const bool biased = GENERATE(false, true);
  CAPTURE(s.N, s.I, s.O, transposed, biased);
  const auto run = [&](Backend& k, const Memory& memory) {
    const Matrix x = memory.operand(s.N, s.I, 1), dy = memory.operand(s.N, s.O, 2);
    Matrix dw = transposed ? memory.output(s.O, s.I) : memory.output(s.I, s.O), dbias = memory.output(1, s.O);
    k.matmul_dw({.dw = dw.view(),
                 .dbias = biased ? dbias.view() : View{},
                 .x = x.view(),
                 .dy = dy.view(),
                 .scale = 0.35,
                 .transposed = transposed,
                 .accumulate = false});
    return written(std::move(dw), std::move(dbias));
  };
  if (biased) check_conformance("matmul_dw", run);
  else check_product("matmul_dw", run);
}

TEST_CASE("matmul_dw of a frozen weight forms the bias's gradient alone", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(shapes()), Shape{1100, 20, 30});
  const bool accumulate = GENERATE(false, true);
  CAPTURE(s.N, s.O, accumulate);
  check_conformance("matmul_dw", [&](Backend& k, const Memory& memory) {
    const Matrix dy = memory.input(s.N, s.O, 2);
    Matrix dbias = accumulate ? memory.in_out(1, s.O, 4) : memory.output(1, s.O);
    k.matmul_dw({.dw = {}, .dbias = dbias.view(), .x = {}, .dy = dy.view(), .scale = 0.35, .accumulate = accumulate});
    return written(std::move(dbias));
  });
}

TEST_CASE("products of operands that are stored in bfloat16 have the bits of float32 ones", "[kernels][bf16]") {
  const Shape s = GENERATE(from_range(shapes()));
  const bool transposed = GENERATE(false, true);
  CAPTURE(s.N, s.I, s.O, transposed);
  check_stored_operands([&](Backend& k, const Memory& memory) {
    const Matrix x = memory.operand(s.N, s.I, 1), dy = memory.operand(s.N, s.O, 4), bias = memory.input(1, s.O, 3);
    const Memory wide{memory.dtype, memory.padding, true};  // weights are masters
    const Matrix w = weight(wide, s, transposed);
    Matrix y = memory.operand_output(s.N, s.O), sum = memory.in_out(s.N, s.O, 5), dx = memory.operand_output(s.N, s.I);
    Matrix dw = transposed ? memory.in_out(s.O, s.I, 6) : memory.in_out(s.I, s.O, 6), dbias = memory.in_out(1, s.O, 7);
    k.panels(s.N, [&](Rows r) {
      k.matmul({.y = y.view()[r], .x = x.view()[r], .w = w.view(), .bias = bias.view(), .add = {}, .transposed = transposed});
      k.matmul(
          {.y = sum.view()[r], .x = x.view()[r], .w = w.view(), .bias = {}, .add = sum.view()[r], .scale = 0.35, .transposed = transposed});
      k.matmul_dx({.dx = dx.view()[r], .dy = dy.view()[r], .w = w.view(), .add = {}, .scale = 0.35, .transposed = transposed});
    });
    k.matmul_dw({.dw = dw.view(), .dbias = dbias.view(), .x = x.view(), .dy = dy.view(), .transposed = transposed});
    return written(std::move(y), std::move(sum), std::move(dx), std::move(dw), std::move(dbias));
  });
}

TEST_CASE("an element of a product has the same bits alone, in a panel and in a narrower slice", "[kernels][conformance]") {
  const bool transposed = GENERATE(false, true);
  const std::int64_t rows = GENERATE(1, 2, 5, 8, 19), columns = GENERATE(1, 16, 47, 48, 64);
  const Precision precision = GENERATE(from_range(TestedBackend::precisions()));
  CAPTURE(transposed, rows, columns, name_of(precision));
  const TestedBackend tested(precision);
  const Memory memory{DType::float32, 32};
  const Shape s{19, 320, 64};
  const Matrix x = memory.input(s.N, s.I, 1), w = weight(memory, s, transposed), bias = memory.input(1, s.O, 3),
               dy = memory.input(s.N, s.O, 4);
  const auto product = [&](std::int64_t N, std::int64_t O) {
    Matrix y = memory.output(N, O);
    const ConstView part = transposed ? w.view().slice(O, s.I) : w.view().slice(s.I, O);
    tested->matmul({.y = y.view(),
                    .x = x.view().slice(N, s.I),
                    .w = part,
                    .bias = bias.view().slice(1, O),
                    .add = {},
                    .scale = 0.35,
                    .transposed = transposed});
    return y;
  };
  const auto weight_gradient = [&](std::int64_t O) {
    Matrix dw = transposed ? memory.in_out(s.O, s.I, 5) : memory.in_out(s.I, s.O, 5);
    const View part = transposed ? dw.view().slice(O, s.I) : dw.view().slice(s.I, O);
    tested->matmul_dw({.dw = part, .dbias = {}, .x = x.view(), .dy = dy.view().slice(s.N, O), .transposed = transposed});
    return dw;
  };
  const Matrix whole = product(s.N, s.O), part = product(rows, columns), whole_dw = weight_gradient(s.O),
               part_dw = weight_gradient(columns);
  bool same = true, same_dw = true;
  for (std::int64_t j = 0; j < columns; ++j) {
    for (std::int64_t i = 0; i < rows; ++i) same = same && part.at(i, j) == whole.at(i, j);
    for (std::int64_t i = 0; i < s.I; ++i)
      same_dw = same_dw && (transposed ? part_dw.at(j, i) == whole_dw.at(j, i) : part_dw.at(i, j) == whole_dw.at(i, j));
  }
  CHECK(same);
  CHECK(same_dw);
}

TEST_CASE("backward of matmul is its derivative", "[kernels][gradient]") {
  const bool transposed = GENERATE(false, true);
  const Memory memory;
  ReferenceBackend k;
  const Shape s{5, 3, 4};
  const double scale = 0.7;
  Matrix x = memory.input(s.N, s.I, 1), w = weight(memory, s, transposed), bias = memory.input(1, s.O, 3);
  const Matrix dy = memory.input(s.N, s.O, 4), add = memory.input(s.N, s.O, 5);
  const auto loss = [&] {
    Matrix y = memory.output(s.N, s.O);
    k.matmul(
        {.y = y.view(), .x = x.view(), .w = w.view(), .bias = bias.view(), .add = add.view(), .scale = scale, .transposed = transposed});
    return dot(y, dy);
  };
  Matrix dx = memory.output(s.N, s.I), dw(w.rows(), w.columns(), w.columns(), DType::float64, 0, kOutputMark);
  Matrix dbias(1, s.O, s.O, DType::float64, 0, kOutputMark);
  k.matmul_dx({.dx = dx.view(), .dy = dy.view(), .w = w.view(), .add = {}, .scale = scale, .transposed = transposed});
  k.matmul_dw({.dw = dw.view(), .dbias = dbias.view(), .x = x.view(), .dy = dy.view(), .scale = scale, .transposed = transposed});
  const Tolerance allowed = tolerance("finite_difference", DType::float64);
  CHECK_THAT(dx, near(finite_difference(x, loss), allowed));
  CHECK_THAT(dw, near(finite_difference(w, loss), allowed));
  CHECK_THAT(dbias, near(finite_difference(bias, loss), allowed));
}

TEST_CASE("NaN and infinity pass through matmul", "[kernels][extreme]") {
  const Precision precision = GENERATE(from_range(TestedBackend::precisions()));
  const TestedBackend tested(precision);
  const Memory memory{DType::float32, 5};
  const double bad = GENERATE(std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity());
  Matrix x = memory.input(4, 33, 1), y = memory.output(4, 16);
  const Matrix w = memory.input(33, 16, 2);
  x.set(2, 32, bad);
  tested->matmul({.y = y.view(), .x = x.view(), .w = w.view(), .bias = {}, .add = {}});
  for (std::int64_t i = 0; i < 4; ++i)
    for (std::int64_t j = 0; j < 16; ++j) CHECK(std::isfinite(y.at(i, j)) == (i != 2));
}

}  // namespace elastiform
