// Optimizer steps on the device: lists of rectangles, and the shadows of what they move.
#include <list>
#include <span>
#include <vector>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/random.hpp"
#include "tests/cuda/placed.hpp"
#include "tests/support/conformance.hpp"

namespace elastiform {
namespace {

using ELASTIFORM_GPU::CudaBackend;

struct Size {
  std::int64_t rows, columns;
};
const std::vector<Size> kRectangles = {{1, 1}, {3, 2}, {70, 130}, {1, 9000}, {17, 33}};
const Memory kMemory{DType::float32, 5};

/// Operands of every kind of step on each rectangle, on the device.
struct AllSteps {
  std::list<Placed> weights, moments, gradients, rows, columns, m_codes, v_codes, m_scales, v_scales;

  explicit AllSteps(Backend& k) {
    std::uint64_t stream = 1;
    const auto squares = [&](Matrix m) {
      m.map([](double e) { return e * e; });
      return m;
    };
    for (const Size& s : kRectangles) {
      const std::int64_t blocks = CodeBlocks(s.rows, s.columns).count();
      Matrix codes(s.rows, s.columns, s.columns + 5, DType::uint8, 0, kOutputMark);
      RandomStream random(stream, Purpose::test);
      codes.map([&](double) { return static_cast<double>(random.below(256)); });
      weights.emplace_back(k, kMemory.in_out(s.rows, s.columns, stream));
      moments.emplace_back(k, kMemory.in_out(s.rows, s.columns, stream + 1));
      gradients.emplace_back(k, kMemory.input(s.rows, s.columns, stream + 2));
      rows.emplace_back(k, squares(kMemory.in_out(1, s.rows, stream + 3)));
      columns.emplace_back(k, squares(kMemory.in_out(1, s.columns, stream + 4)));
      m_codes.emplace_back(k, codes), v_codes.emplace_back(k, codes);
      m_scales.emplace_back(k, kMemory.in_out(1, blocks, stream + 5));
      v_scales.emplace_back(k, squares(kMemory.in_out(1, blocks, stream + 6)));
      stream += 7;
    }
  }
  static View view(const std::list<Placed>& list, std::int64_t i) { return std::next(list.begin(), i)->view(); }
  void step(Backend& k, int kind, std::int64_t i) const {
    const View weight = view(weights, i), gradient = view(gradients, i);
    if (kind == 0) k.momentum_step({.weight = weight, .m = view(moments, i), .gradient = gradient, .rate = 0.1, .decay = 0.1});
    if (kind == 1) k.factored_step({.weight = weight, .row = view(rows, i), .column = view(columns, i), .gradient = gradient, .rate = 0.1});
    if (kind == 2)
      k.adamw_8bit({.weight = weight,
                    .m = view(m_codes, i),
                    .v = view(v_codes, i),
                    .m_scale = view(m_scales, i),
                    .v_scale = view(v_scales, i),
                    .gradient = gradient,
                    .rate = 0.1});
  }
  std::vector<Matrix> read() const {
    std::vector<Matrix> all;
    for (const std::list<Placed>* list : {&weights, &moments, &m_codes, &v_codes, &m_scales, &v_scales})
      for (const Placed& placed : *list) all.push_back(placed.read());
    return all;
  }
};

constexpr auto kCount = static_cast<std::int64_t>(5);

}  // namespace

TEST_CASE("steps of every kind run as one launch a kind in a loop, with the bits of single ones in a body's order", "[cuda]") {
  CudaBackend k;
  const AllSteps expected(k), actual(k);
  REQUIRE(static_cast<std::int64_t>(kRectangles.size()) == kCount);
  const auto body = [&](const AllSteps& steps, std::int64_t i) {
    steps.step(k, static_cast<int>(i % 3), i);
    if (i == 2) k.scale(AllSteps::view(steps.weights, i), 0.5);
    if (i != 3) steps.step(k, static_cast<int>((i + 1) % 3), i);
  };
  for (std::int64_t i = 0; i < kCount; ++i) body(expected, i);
  k.for_each(kCount, [&](std::int64_t i) { body(actual, i); });
  check_same_bits(actual.read(), expected.read());
}

TEST_CASE("squares of many steps are those of each", "[cuda]") {
  CudaBackend k;
  const AllSteps steps(k);
  std::vector<FactoredStep> list;
  for (std::int64_t i = 0; i < kCount; ++i)
    list.push_back({.weight = AllSteps::view(steps.weights, i),
                    .row = AllSteps::view(steps.rows, i),
                    .column = AllSteps::view(steps.columns, i),
                    .gradient = AllSteps::view(steps.gradients, i)});
  std::vector<StepSquares> together(list.size());
  k.factored_squares(list, together);
  for (std::size_t i = 0; i < list.size(); ++i) {
    StepSquares alone;
    k.factored_squares(std::span(&list[i], 1), std::span(&alone, 1));
    CHECK(together[i].weight == alone.weight);
    CHECK(together[i].direction == alone.direction);
    CHECK(alone.direction > 0);
  }
}

TEST_CASE("a weight's shadow follows it through every step, and through sums and products", "[cuda][bf16]") {
  CudaBackend k(Precision::bf16);
  const std::int64_t N = 9, I = 70, O = 130;  // the third rectangle
  const AllSteps steps(k);
  const View w = AllSteps::view(steps.weights, 2);
  const Placed x(k, kMemory.input(N, I, 2)), y(k, kMemory.output(N, O));
  const auto check_product = [&](const char* change) {
    CAPTURE(change);
    k.matmul({.y = y.view(), .x = x.view(), .w = w, .bias = {}, .add = {}});
    CudaBackend fresh(Precision::bf16);  // its shadow is made of what the weight is now
    const Placed same_w(fresh, std::next(steps.weights.begin(), 2)->read()), same_x(fresh, x.read()), other(fresh, kMemory.output(N, O));
    fresh.matmul({.y = other.view(), .x = same_x.view(), .w = same_w.view(), .bias = {}, .add = {}});
    CHECK(y.read().same_bits(other.read()));
  };
  check_product("none");
  for (int kind = 0; kind < 3; ++kind) {
    steps.step(k, kind, 2);
    check_product("a step");
    k.for_each(1, [&](std::int64_t) { steps.step(k, kind, 2); });
    check_product("a step in a loop");
  }
  k.add(w, AllSteps::view(steps.gradients, 2), 0.5);
  check_product("add");
  k.multiply(w, AllSteps::view(steps.gradients, 2));
  check_product("multiply");
}

}  // namespace elastiform
