#include <vector>

#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda_on_host/settings.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/cuda/device_matrix.hpp"
#include "tests/support/near.hpp"
#include "tests/support/sanitized.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

enum class Kind : std::uint8_t { forward, dx, dw };

/// One product: its sizes, how its factors and its result are stored, and where they lie.
struct Case {
  Kind kind = Kind::forward;
  std::int64_t N = 1, I = 1, O = 1;
  bool transposed = false;
  Precision precision = Precision::f32;
  DType left = DType::float32, right = DType::float32, result = DType::float32;
};
struct Layout {
  std::int64_t padding = 0, shift = 0;  // elements after each row, and before the first
};

/// The type whose values are multiplied.
DType multiplied(const Case& c) {
  if (c.precision == Precision::f32) return DType::float32;
  return c.left == DType::float16 || c.right == DType::float16 ? DType::float16 : DType::bfloat16;
}

Matrix factor(std::int64_t rows, std::int64_t columns, std::int64_t padding, DType dtype, std::uint64_t stream) {
  return normal(rows, columns, columns + padding, dtype, stream);
}
/// The values that are multiplied, in float64.
Matrix rounded(const Matrix& stored, const Case& c) { return converted(converted(stored, multiplied(c)), DType::float64); }

/// left and right factor, as they are stored, and what the result adds to.
struct Operands {
  Matrix left, right, add, bias;

  Operands(const Case& c, std::int64_t padding)
      : left(factor(c.N, c.kind == Kind::dx ? c.O : c.I, padding, c.left, 1)),
        right(c.kind == Kind::dw ? factor(c.N, c.O, padding, c.right, 2)
                                 : factor(c.transposed ? c.O : c.I, c.transposed ? c.I : c.O, padding, c.right, 2)),
        add(c.kind != Kind::dw ? factor(c.N, c.kind == Kind::dx ? c.I : c.O, padding, DType::float32, 3)
            : c.transposed     ? factor(c.O, c.I, padding, DType::float32, 3)
                               : factor(c.I, c.O, padding, DType::float32, 3)),
        bias(factor(1, c.O, padding, DType::float32, 4)) {}
};

constexpr double kScale = 0.35;

Matrix reference(const Case& c) {
  const Operands in(c, 0);
  const Matrix left = rounded(in.left, c), right = rounded(in.right, c), bias = converted(in.bias, DType::float64);
  Matrix result = converted(in.add, DType::float64);
  ReferenceBackend k;
  if (c.kind == Kind::forward)
    k.matmul({.y = result.view(),
              .x = left.view(),
              .w = right.view(),
              .bias = bias.view(),
              .add = result.view(),
              .scale = kScale,
              .transposed = c.transposed});
  if (c.kind == Kind::dx)
    k.matmul_dx(
        {.dx = result.view(), .dy = left.view(), .w = right.view(), .add = result.view(), .scale = kScale, .transposed = c.transposed});
  if (c.kind == Kind::dw)
    k.matmul_dw({.dw = result.view(), .dbias = {}, .x = left.view(), .dy = right.view(), .scale = kScale, .transposed = c.transposed});
  return result;
}

/// The result, which replaces what it adds to if that has its type.
Matrix run(const Case& c, Layout layout) {
  const Operands in(c, layout.padding);
  const DeviceMatrix left(in.left, layout.shift), right(in.right, layout.shift), add(in.add, layout.shift), bias(in.bias, layout.shift);
  Matrix unwritten = canary(in.add.rows(), in.add.columns(), in.add.columns() + layout.padding, c.result);
  const DeviceMatrix apart(unwritten, layout.shift);
  const DeviceMatrix& result = c.result == DType::float32 ? add : apart;
  if (c.kind == Kind::forward)
    matmul(nullptr,
           {.y = result.view(),
            .x = left.view(),
            .w = right.view(),
            .bias = bias.view(),
            .add = add.view(),
            .scale = kScale,
            .transposed = c.transposed},
           c.precision);
  if (c.kind == Kind::dx)
    matmul_dx(nullptr,
              {.dx = result.view(), .dy = left.view(), .w = right.view(), .add = add.view(), .scale = kScale, .transposed = c.transposed},
              c.precision);
  if (c.kind == Kind::dw)
    matmul_dw(nullptr,
              {.dw = result.view(), .dbias = {}, .x = left.view(), .dy = right.view(), .scale = kScale, .transposed = c.transposed},
              c.precision);
  return result.read();
}

const char* row_of(Kind kind, bool rounds) {
  if (kind == Kind::forward) return rounds ? "matmul bf16" : "matmul";
  if (kind == Kind::dx) return rounds ? "matmul_dx bf16" : "matmul_dx";
  return rounds ? "matmul_dw bf16" : "matmul_dw";
}

/// Near the float64 product; the same bits wherever the matrices lie, in whatever order blocks and threads run.
void check(const Case& c) {
  CAPTURE(static_cast<int>(c.kind), c.N, c.I, c.O, c.transposed, name_of(c.precision), name_of(c.left), name_of(c.right),
          name_of(c.result));
  const Matrix expected = reference(c), tight = run(c, {});
  if (c.result == DType::float32) {
    const char* row = row_of(c.kind, c.precision == Precision::bf16);
    CHECK_THAT(tight, near(expected, tolerance(row, DType::float32).scaled(expected.largest_magnitude())));
  } else {
    Case wide = c;
    wide.result = DType::float32;
    CHECK(tight.same_bits(converted(run(wide, {}), c.result)));
  }
  CHECK(run(c, {.padding = 5, .shift = 3}).same_bits(tight));
  if (kSanitized) return;
  CHECK(run(c, {.padding = 352}).same_bits(tight));
  for (const Order order : {Order::reverse, Order::shuffle}) {
    set_order(order, 7);
    CHECK(run(c, {.padding = 8}).same_bits(tight));
  }
  set_order(Order::forward);
}

}  // namespace

TEST_CASE("float32 products agree with float64 wherever their matrices lie", "[cuda][matmul]") {
  const Kind kind = GENERATE(Kind::forward, Kind::dx, Kind::dw);
  const bool transposed = GENERATE(false, true);
  check({.kind = kind, .N = 1, .I = 1, .O = 1, .transposed = transposed});
  check({.kind = kind, .N = 65, .I = 33, .O = 70, .transposed = transposed});
  check({.kind = kind, .N = 30, .I = 130, .O = 64, .transposed = transposed});
}

TEST_CASE("products on tensor cores agree with float64 products of rounded factors, stored in any type", "[cuda][matmul]") {
  const Kind kind = GENERATE(Kind::forward, Kind::dx, Kind::dw);
  const DType left = GENERATE(DType::float32, DType::bfloat16, DType::float16);
  const DType right = GENERATE(DType::float32, DType::bfloat16, DType::float16);
  const bool transposed = GENERATE(false, true);
  if (kSanitized && transposed != (left == right)) return;  // each loop over factors runs once
  Case c{.kind = kind, .N = 66, .I = 40, .O = 77, .transposed = transposed, .precision = Precision::bf16, .left = left, .right = right};
  check(c);
  c.N = 1;
  c.I = 129;
  c.O = 3;
  check(c);
  if (kind == Kind::dw) return;
  c.result = left == DType::float32 ? DType::bfloat16 : left;
  check(c);
}

TEST_CASE("large tiles give the bits of small ones", "[cuda][matmul]") {
  // 2 x 60 tiles of 128 fill a GPU; the first rows and columns do not, and are multiplied in tiles of 64.
  constexpr std::int64_t kRows = 130, kColumns = 7560, kFewColumns = 200, kDepth = kSanitized ? 20 : 50;
  const Kind kind = GENERATE(Kind::forward, Kind::dx, Kind::dw);
  const Precision precision = GENERATE(Precision::f32, Precision::bf16);
  const DType left = GENERATE(DType::float32, DType::bfloat16), right = GENERATE(DType::float32, DType::bfloat16);
  if (precision == Precision::f32 && (left != right || left != DType::float32)) return;
  if (kSanitized && (kind != Kind::dw || left != right)) return;
  CAPTURE(static_cast<int>(kind), name_of(precision), name_of(left), name_of(right));
  const auto product = [&](std::int64_t rows, std::int64_t columns) {
    const Case c{.kind = kind,
                 .N = kind == Kind::dw ? kDepth : rows,
                 .I = kind == Kind::forward ? kDepth
                      : kind == Kind::dx    ? columns
                                            : rows,
                 .O = kind == Kind::dx ? kDepth : columns,
                 .precision = precision,
                 .left = left,
                 .right = right};
    return c;
  };
  const Case large = product(kRows, kColumns);
  const Operands in(large, 8);
  const DeviceMatrix a(in.left), b(in.right), add(in.add), whole(in.add), part(in.add);
  const auto multiply = [&](const Case& c, const DeviceMatrix& result) {
    const auto first = [](const DeviceMatrix& m, std::int64_t rows, std::int64_t columns) { return m.view().slice(rows, columns); };
    if (kind == Kind::forward)
      matmul(nullptr, {.y = first(result, c.N, c.O), .x = first(a, c.N, c.I), .w = first(b, c.I, c.O), .bias = {}, .add = {}}, precision);
    if (kind == Kind::dx)
      matmul_dx(nullptr, {.dx = first(result, c.N, c.I), .dy = first(a, c.N, c.O), .w = first(b, c.I, c.O), .add = {}}, precision);
    if (kind == Kind::dw)
      matmul_dw(nullptr, {.dw = first(result, c.I, c.O), .dbias = {}, .x = first(a, c.N, c.I), .dy = first(b, c.N, c.O)}, precision);
  };
  multiply(large, whole);
  multiply(product(kRows, kFewColumns), part);
  const Matrix all = whole.read(), some = part.read();
  bool same = true;
  for (std::int64_t i = 0; i < kRows; ++i)
    for (std::int64_t j = 0; j < kFewColumns; ++j) same = same && all.at(i, j) == some.at(i, j);
  CHECK(same);
}

TEST_CASE("matmul_dw over many tokens is summed in parts", "[cuda][matmul]") {
  // Two parts, and three; the last one is shorter and ends inside a step of every kernel.
  const std::int64_t N = GENERATE(1100, 1542), I = 37, O = 65;
  const Precision precision = GENERATE(Precision::f32, Precision::bf16);
  const DType stored = precision == Precision::f32 ? DType::float32 : GENERATE(DType::float32, DType::bfloat16, DType::float16);
  const bool transposed = GENERATE(false, true), accumulate = GENERATE(false, true);
  if (kSanitized && (N > 1100 || transposed != accumulate)) return;
  CAPTURE(N, name_of(precision), name_of(stored), transposed, accumulate);
  Case c{.kind = Kind::dw, .N = N, .I = I, .O = O, .transposed = transposed, .precision = precision, .left = stored, .right = stored};
  const auto on_device = [&](std::int64_t padding) {
    const Operands in(c, padding);
    const Matrix before = accumulate ? in.add : canary(in.add.rows(), in.add.columns(), in.add.columns() + padding, DType::float32);
    const DeviceMatrix x(in.left), dy(in.right), dw(before);
    const MatmulDw op{
        .dw = dw.view(), .dbias = {}, .x = x.view(), .dy = dy.view(), .scale = kScale, .transposed = transposed, .accumulate = accumulate};
    REQUIRE(matmul_dw_scratch_bytes(op) == static_cast<std::int64_t>((N / 512) * I * O * sizeof(float)));
    void* const scratch = allocate_on_device(matmul_dw_scratch_bytes(op));
    matmul_dw(nullptr, op, precision, static_cast<std::byte*>(scratch));
    Matrix result = dw.read();
    free_on_device(scratch);
    return result;
  };
  Matrix expected = reference(c);
  if (!accumulate) {
    const Operands in(c, 0);
    for (std::int64_t i = 0; i < expected.rows(); ++i)
      for (std::int64_t j = 0; j < expected.columns(); ++j) expected.set(i, j, expected.at(i, j) - in.add.at(i, j));
  }
  const Matrix tight = on_device(0);
  CHECK_THAT(tight, near(expected, tolerance("matmul_dw", DType::float32).scaled(expected.largest_magnitude())));
  CHECK(on_device(3).same_bits(tight));
  if (kSanitized) return;
  set_order(Order::shuffle, 11);
  CHECK(on_device(8).same_bits(tight));
  set_order(Order::forward);
}

TEST_CASE("matmul_dw sums dy as it is stored, in one order", "[cuda][matmul]") {
  const DType dtype = GENERATE(DType::float32, DType::bfloat16, DType::float16);
  const std::int64_t N = GENERATE(1, 37, 1100), I = 3, O = 45;
  const bool accumulate = GENERATE(false, true);
  CAPTURE(name_of(dtype), N, accumulate);
  const Matrix x = factor(N, I, 0, DType::float32, 1), dy = factor(N, O, 0, dtype, 2);
  const auto before = [&](std::int64_t rows, std::int64_t columns, std::uint64_t stream) {
    return accumulate ? factor(rows, columns, 4, DType::float32, stream) : canary(rows, columns, columns + 4, DType::float32);
  };
  ReferenceBackend k;
  Matrix dw = converted(before(I, O, 3), DType::float64), dbias = converted(before(1, O, 4), DType::float64);
  k.matmul_dw({.dw = dw.view(),
               .dbias = dbias.view(),
               .x = converted(x, DType::float64).view(),
               .dy = converted(dy, DType::float64).view(),
               .scale = kScale,
               .accumulate = accumulate});
  const auto on_device = [&] {
    const DeviceMatrix x_there(x), dy_there(dy), dw_there(before(I, O, 3)), dbias_there(before(1, O, 4));
    matmul_dw(nullptr,
              {.dw = dw_there.view(),
               .dbias = dbias_there.view(),
               .x = x_there.view(),
               .dy = dy_there.view(),
               .scale = kScale,
               .accumulate = accumulate},
              Precision::f32);
    CHECK_THAT(dw_there.read(), near(dw, tolerance("matmul_dw", DType::float32).scaled(dw.largest_magnitude())));
    return dbias_there.read();
  };
  const Matrix sums = on_device();
  CHECK_THAT(sums, near(dbias, tolerance("matmul_dw", DType::float32).scaled(dbias.largest_magnitude())));
  for (const Order order : {Order::reverse, Order::shuffle}) {
    set_order(order, 3);
    CHECK(on_device().same_bits(sums));
  }
  set_order(Order::forward);
}

}  // namespace elastiform::ELASTIFORM_GPU
