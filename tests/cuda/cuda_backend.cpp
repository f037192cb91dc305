// What CudaBackend adds to the kernels: lists of rectangles, uploads, shadows of weights, all rows as one panel.
#include "kernels/cuda/cuda_backend.hpp"

#include <cmath>
#include <limits>
#include <list>
#include <stdexcept>
#include <vector>

#include "kernels/cuda_on_host/settings.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/cuda/placed.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/near.hpp"

namespace elastiform {
namespace {

using ELASTIFORM_GPU::CudaBackend;

const Memory kMemory{DType::float32, 5};

struct Size {
  std::int64_t rows, columns;
};
// One element, less than a group of four, several tiles, one row of several tiles.
const std::vector<Size> kRectangles = {{1, 1}, {3, 2}, {70, 130}, {1, 9000}, {17, 33}};

/// Weight, moments and gradient of each rectangle, on the device.
struct Steps {
  std::list<Placed> weights, m, v, gradients;

  explicit Steps(Backend& k) {
    std::uint64_t stream = 1;
    for (const Size& s : kRectangles) {
      weights.emplace_back(k, kMemory.in_out(s.rows, s.columns, stream));
      m.emplace_back(k, kMemory.in_out(s.rows, s.columns, stream + 1));
      Matrix squares = kMemory.in_out(s.rows, s.columns, stream + 2);
      squares.map([](double e) { return e * e; });
      v.emplace_back(k, squares);
      gradients.emplace_back(k, kMemory.input(s.rows, s.columns, stream + 3));
      stream += 4;
    }
  }
  Adamw at(std::int64_t i) const {
    const auto view = [&](const std::list<Placed>& list) { return std::next(list.begin(), i)->view(); };
    return {.weight = view(weights),
            .m = view(m),
            .v = view(v),
            .gradient = i == 2 ? ConstView{} : ConstView(view(gradients)),
            .rate = 1e-3 * static_cast<double>(i + 1),
            .decay = 0.1,
            .correction1 = 0.1,
            .correction2 = 0.05};
  }
  std::vector<Matrix> read() const {
    std::vector<Matrix> all;
    for (const std::list<Placed>* list : {&weights, &m, &v})
      for (const Placed& placed : *list) all.push_back(placed.read());
    return all;
  }
};

}  // namespace

TEST_CASE("a device takes all rows as one panel", "[cuda]") {
  CudaBackend k;
  CHECK(k.name() == "cuda-on-host");
  CHECK(k.traits().takes_all_rows());
  std::vector<Rows> panels;
  k.panels(1000, [&](Rows r) { panels.push_back(r); });
  REQUIRE(panels.size() == 1);
  CHECK(panels[0].first == 0);
  CHECK(panels[0].count == 1000);
}

TEST_CASE("norm_backward sums its gains over all rows, in place of dy", "[cuda]") {
  const std::int64_t N = GENERATE(1, 128, 129, 700), C = GENERATE(33, 96, 1091);
  const Norm kind = GENERATE(Norm::rms, Norm::layer);
  CAPTURE(N, C, static_cast<int>(kind));
  const auto run = [&](Backend& k, const Memory& memory) {
    const Placed x(k, memory.input(N, C, 1)), gain(k, memory.input(1, C, 2)), residual(k, memory.input(N, C, 5));
    const Placed y(k, memory.output(N, C)), rstd(k, memory.output(1, N)), mean(k, memory.output(1, N));
    const Placed dx(k, memory.in_out(N, C, 4)), dgain(k, memory.output(1, C)), dbias(k, memory.output(1, C));
    const View some_mean = kind == Norm::layer ? mean.view() : View{};
    k.norm_forward({.y = y.view(), .rstd = rstd.view(), .mean = some_mean, .x = x.view(), .gain = gain.view(), .bias = {}, .kind = kind});
    k.norm_backward({.dx = dx.view(),
                     .dgain = dgain.view(),
                     .dbias = dbias.view(),
                     .dy = dx.view(),
                     .residual = residual.view(),
                     .x = x.view(),
                     .rstd = rstd.view(),
                     .mean = some_mean,
                     .gain = gain.view(),
                     .kind = kind});
    return written(y.read(), dx.read(), dgain.read(), dbias.read());
  };
  ReferenceBackend reference;
  CudaBackend k;
  const std::vector<Matrix> expected = run(reference, {DType::float64, 0}), actual = run(k, {DType::float32, 5});
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(actual[i], near(expected[i], tolerance("norm_backward", DType::float32).scaled(expected[i].largest_magnitude())));
  }
  check_same_bits(run(k, {DType::float32, 352}), actual);
}

TEST_CASE("steps of a loop run as one and have the bits of single ones", "[cuda]") {
  CudaBackend k;
  const Steps one_by_one(k), together(k);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(kRectangles.size()); ++i) k.adamw(one_by_one.at(i));
  k.for_each(static_cast<std::int64_t>(kRectangles.size()), [&](std::int64_t i) { k.adamw(together.at(i)); });
  check_same_bits(together.read(), one_by_one.read());
}

TEST_CASE("what one body of a loop asks for stays in its order", "[cuda]") {
  CudaBackend k;
  const Steps expected(k), actual(k);
  const auto body = [&](const Steps& steps, std::int64_t i) {
    const Adamw op = steps.at(i);
    k.scale(op.m, 0.5);
    k.adamw(op);
    if (i % 2 == 0) k.scale(op.weight, 2);
    if (i == 1) k.zero(op.m);
    if (i == 3) k.adamw(op);
  };
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(kRectangles.size()); ++i) body(expected, i);
  k.for_each(static_cast<std::int64_t>(kRectangles.size()), [&](std::int64_t i) { body(actual, i); });
  check_same_bits(actual.read(), expected.read());
}

TEST_CASE("a loop that fails leaves nothing behind", "[cuda]") {
  CudaBackend k;
  const Steps steps(k);
  const std::vector<Matrix> before = steps.read();
  CHECK_THROWS_AS(k.for_each(2,
                             [&](std::int64_t i) {
                               k.adamw(steps.at(i));
                               if (i == 1) throw std::runtime_error("body");
                             }),
                  std::runtime_error);
  k.for_each(1, [](std::int64_t) {});
  check_same_bits(steps.read(), before);
}

TEST_CASE("zero, scale and copy reach the elements of a view and no others", "[cuda]") {
  CudaBackend k;
  const auto type = GENERATE(DType::float32, DType::bfloat16);
  const Size s = GENERATE(Size{1, 1}, Size{3, 7}, Size{70, 130});
  CAPTURE(name_of(type), s.rows, s.columns);
  const Memory memory{DType::float32, GENERATE(0, 5, 32), true, type == DType::bfloat16};
  Matrix source = memory.operand(s.rows, s.columns, 1), back = memory.operand_output(s.rows, s.columns);
  const Placed a(k, memory.operand_output(s.rows, s.columns)), b(k, memory.operand_output(s.rows, s.columns));
  k.copy(a.view(), source.view());
  k.copy(b.view(), a.view());
  CHECK(a.read().same_bits(converted(source, type)));
  k.copy(back.view(), b.view());
  CHECK(back.same_bits(a.read()));
  CHECK(back.canary_intact());
  k.for_each(1, [&](std::int64_t) { k.zero(a.view()); });
  CHECK(a.read().largest_magnitude() == 0);
  if (type != DType::float32) return;
  k.scale(b.view(), 0.5);
  source.map([](double e) { return 0.5 * e; });
  CHECK(b.read().same_bits(converted(source, type)));
}

TEST_CASE("sums of squares of many matrices are those of each", "[cuda]") {
  CudaBackend k;
  ReferenceBackend reference;
  std::vector<ConstView> views;
  std::list<Placed> placed;
  std::vector<double> expected;
  for (const Size& s : kRectangles) {
    const std::uint64_t stream = placed.size() + 1;
    placed.emplace_back(k, kMemory.input(s.rows, s.columns, stream));
    views.push_back(placed.back().view());
    const Matrix wide = Memory{}.input(s.rows, s.columns, stream);
    expected.push_back(reference.sum_squares(wide.view()));
    views.push_back(ConstView(placed.back().view()).row_range(0, 0));
    expected.push_back(0);
  }
  std::vector<double> sums(views.size(), -1);
  k.sum_squares(views, sums);
  for (std::size_t i = 0; i < views.size(); ++i) {
    CAPTURE(i);
    CHECK(sums[i] == Approx(expected[i]).epsilon(tolerance("sum_squares", DType::float32).relative));
    CHECK(sums[i] == k.sum_squares(views[i]));
  }
  const Placed row(k, kMemory.input(1, 5000, 1));
  const Matrix wide = Memory{}.input(1, 5000, 1);
  CHECK(k.sum(row.view()) == Approx(reference.sum(wide.view())).epsilon(1e-12));
}

TEST_CASE("uploads hold until they are used, whatever is in the stream, and a steady step waits for none", "[cuda]") {
  CudaBackend k;
  constexpr std::int64_t kVocabulary = 50, C = 4;
  const Placed table(k, kMemory.input(kVocabulary, C, 1));
  const Matrix expected = kMemory.input(kVocabulary, C, 1);
  const std::int64_t N = GENERATE(1, 3000);
  std::list<Placed> outputs;
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(N));
  const auto step = [&](std::int32_t token) {
    tokens.assign(static_cast<std::size_t>(N), token);
    k.embedding_forward({.y = outputs.back().view(), .table = table.view(), .positions = {}, .tokens = tokens});
  };
  constexpr int kSteps = 200;
  for (int i = 0; i < kSteps; ++i) {  // nothing waits for the stream
    outputs.emplace_back(k, kMemory.output(N, C));
    step(static_cast<std::int32_t>(i % kVocabulary));
  }
  std::int32_t token = 0;
  for (const Placed& output : outputs) {
    const Matrix y = output.read();
    CHECK(y.at(N - 1, C - 1) == expected.at(token, C - 1));
    token = (token + 1) % kVocabulary;
  }
  const std::int64_t waits = k.upload_waits();
  for (int i = 0; i < kSteps; ++i) {
    step(7);
    if (i % 10 == 9) k.wait();
  }
  CHECK(k.upload_waits() == waits);
  CHECK(outputs.back().read().at(0, 0) == expected.at(7, 0));
}

TEST_CASE("a weight's shadow follows it through every change", "[cuda][bf16]") {
  CudaBackend k(Precision::bf16);
  const bool transposed = GENERATE(false, true);
  const std::int64_t N = 9, I = 40, O = 24;
  const Matrix start = transposed ? kMemory.in_out(O, I, 1) : kMemory.in_out(I, O, 1);
  const Placed x(k, kMemory.input(N, I, 2)), w(k, start),
      zeros(k, Matrix(start.rows(), start.columns(), start.columns(), DType::float32, 0, 0)),
      moment(k, kMemory.in_out(start.rows(), start.columns(), 3)), gradient(k, kMemory.input(start.rows(), start.columns(), 4)),
      dy(k, kMemory.input(N, O, 5)), y(k, kMemory.output(N, O));
  const auto product = [&](Backend& backend, View weight, View to, View from) {
    backend.matmul({.y = to, .x = from, .w = weight, .bias = {}, .add = {}, .transposed = transposed});
  };
  const auto check_product = [&](const char* change) {
    CAPTURE(change);
    product(k, w.view(), y.view(), x.view());
    CudaBackend fresh(Precision::bf16);  // its shadow is made of what the weight is now
    const Placed same_w(fresh, w.read()), same_x(fresh, x.read()), other(fresh, kMemory.output(N, O));
    product(fresh, same_w.view(), other.view(), same_x.view());
    CHECK(y.read().same_bits(other.read()));
  };
  CHECK(k.kept_bytes() == 0);
  check_product("none");
  const Adamw step{.weight = w.view(), .m = moment.view(), .v = zeros.view(), .gradient = gradient.view(), .rate = 0.1};
  k.adamw(step);
  check_product("adamw");
  const std::int64_t kept = k.kept_bytes();  // the shadow, and the ring that the step's list went through
  k.for_each(1, [&](std::int64_t) {
    k.adamw(step);
    product(k, w.view(), y.view(), x.view());
  });
  check_product("adamw before a product in one body");
  k.scale(w.view().row_range(1, 2), -3);
  check_product("scale");
  k.scale(w.view(), 0.5);
  k.for_each(1, [&](std::int64_t) {
    k.adamw(step);  // while the shadow is stale
    product(k, w.view(), y.view(), x.view());
  });
  check_product("adamw after scale, before a product in one body");
  k.copy(w.view().row_range(0, 1), gradient.view().row_range(0, 1));
  check_product("copy");
  k.matmul_dw({.dw = w.view(), .dbias = {}, .x = x.view(), .dy = dy.view(), .transposed = transposed});
  check_product("matmul_dw");
  k.memory().copy(w.view().data, std::as_const(start).view().data, 16);
  check_product("a copy of bytes");
  k.zero(w.view().row_range(2, 3));
  check_product("zero");
  k.memory().zero(w.view().data, 8);
  check_product("zero bytes");
  CHECK(k.kept_bytes() == kept);
}

TEST_CASE("losses over a vocabulary of 50,257 agree with float64", "[cuda]") {
  constexpr std::int64_t N = 2, V = 50257;
  const bool taught = GENERATE(false, true);
  const std::vector<std::int32_t> targets = {50256, 7};
  const auto run = [&](Backend& k, const Memory& memory) {
    const Placed logits(k, memory.in_out(N, V, 1)), teacher(k, memory.input(N, V, 2)), losses(k, memory.output(1, N)),
        teacher_losses(k, memory.output(1, N)), correct(k, memory.output(1, N));
    k.softmax_loss({.losses = losses.view(),
                    .teacher_losses = taught ? teacher_losses.view() : View{},
                    .correct = correct.view(),
                    .dlogits = logits.view(),
                    .logits = logits.view(),
                    .teacher = taught ? teacher.view() : View{},
                    .targets = targets,
                    .label_weight = 0.75,
                    .teacher_weight = 0.5,
                    .temperature = 2,
                    .label_smoothing = 0.1});
    return written(losses.read(), correct.read(), logits.read(), teacher_losses.read());
  };
  ReferenceBackend reference;
  CudaBackend k;
  const std::vector<Matrix> expected = run(reference, {DType::float64, 0}), actual = run(k, {DType::float32, 0});
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(actual[i], near(expected[i], tolerance("softmax_loss", DType::float32).scaled(expected[i].largest_magnitude())));
  }
  check_same_bits(run(k, {DType::float32, 3}), actual);
}

TEST_CASE("correct is the first of equal largest logits", "[cuda]") {
  CudaBackend k;
  Matrix logits(3, 700, 700, DType::float32, 1, kInputMark);
  for (std::int64_t n = 0; n < 3; ++n) logits.set(n, 600, 2), logits.set(n, 5, 2);
  const std::vector<std::int32_t> targets = {5, 600, 6};
  const Placed placed(k, logits), correct(k, kMemory.output(1, 3));
  k.softmax_loss({.losses = {},
                  .teacher_losses = {},
                  .correct = correct.view(),
                  .dlogits = {},
                  .logits = placed.view(),
                  .teacher = {},
                  .targets = targets});
  CHECK(correct.read().at(0, 0) == 1);
  CHECK(correct.read().at(0, 1) == 0);
  CHECK(correct.read().at(0, 2) == 0);
}

TEST_CASE("a logit of minus infinity is a class that is ruled out", "[cuda]") {
  const std::vector<std::int32_t> targets = {3, 4};
  const auto run = [&](Backend& k, DType dtype) {
    Matrix logits = Memory{dtype, 0}.in_out(2, 300, 1);
    for (const std::int64_t v : {0, 1, 2, 77, 299})
      for (std::int64_t n = 0; n < 2; ++n) logits.set(n, v, -std::numeric_limits<double>::infinity());
    const Placed placed(k, logits), losses(k, Memory{dtype, 0}.output(1, 2)), dlogits(k, Memory{dtype, 0}.output(2, 300));
    k.softmax_loss({.losses = losses.view(),
                    .teacher_losses = {},
                    .correct = {},
                    .dlogits = dlogits.view(),
                    .logits = placed.view(),
                    .teacher = {},
                    .targets = targets});
    return written(losses.read(), dlogits.read());
  };
  ReferenceBackend reference;
  CudaBackend k;
  const std::vector<Matrix> expected = run(reference, DType::float64), actual = run(k, DType::float32);
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK_THAT(actual[i], near(expected[i], tolerance("softmax_loss", DType::float32).scaled(expected[i].largest_magnitude())));
}

}  // namespace elastiform
