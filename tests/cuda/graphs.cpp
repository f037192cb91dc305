// Work that is met again: recorded, played, forgotten when memory moves.
#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/graph_cache.hpp"
#include "tests/cuda/placed.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/device_array.hpp"

namespace elastiform {
namespace {

using ELASTIFORM_GPU::CudaBackend;

const Memory kMemory{DType::float32, 5};

/// y = x · w, and the gradient of w, which takes scratch; the operands of one subnet.
struct Products {
  Placed x, w, y, dw;

  Products(Backend& k, std::int64_t N, std::int64_t I, std::int64_t O, std::uint64_t stream = 1)
      : x(k, kMemory.input(N, I, stream)), w(k, kMemory.in_out(I, O, stream + 1)), y(k, kMemory.output(N, O)), dw(k, kMemory.output(I, O)) {
  }
  void ask(Backend& k) const {
    k.matmul({.y = y.view(), .x = x.view(), .w = w.view(), .bias = {}, .add = {}});
    k.matmul_dw({.dw = dw.view(), .dbias = {}, .x = x.view(), .dy = y.view(), .accumulate = false});
  }
  std::vector<Matrix> read() const { return written(y.read(), dw.read()); }
};

/// What products that were not repeated give.
std::vector<Matrix> once(Precision precision, std::int64_t N, std::int64_t I, std::int64_t O, std::uint64_t stream = 1) {
  CudaBackend k(precision);
  const Products products(k, N, I, O, stream);
  products.ask(k);
  return products.read();
}

RepeatKey key(std::int64_t n) { return {n}; }

}  // namespace

TEST_CASE("work that is met again is played with what its memory holds by then", "[cuda]") {
  const Precision precision = GENERATE(Precision::f32, Precision::bf16);
  CudaBackend k(precision);
  const Products products(k, 70, 40, 24);
  for (int i = 0; i < 4; ++i) {
    k.repeated(key(1), [&] { products.ask(k); });
    CHECK(k.recorded() == (i == 0 ? 0 : 1));
  }
  check_same_bits(products.read(), once(precision, 70, 40, 24));
  k.scale(products.w.view(), 2);  // a power of two: all products are twice what they were
  k.repeated(key(1), [&] { products.ask(k); });
  std::vector<Matrix> expected = once(precision, 70, 40, 24);
  expected[0].map([](double e) { return 2 * e; });
  CHECK(products.y.read().same_bits(expected[0]));
}

TEST_CASE("recorded work is forgotten when scratch memory has grown", "[cuda]") {
  CudaBackend k;
  const Products small(k, 1024, 8, 8), large(k, 1024, 370, 370);  // the gradients of 370 x 370 weights in two parts are more than a MiB
  for (int i = 0; i < 3; ++i) k.repeated(key(1), [&] { small.ask(k); });
  CHECK(k.recorded() == 1);
  k.matmul_dw({.dw = large.dw.view(), .dbias = {}, .x = large.x.view(), .dy = large.y.view(), .accumulate = false});
  k.zero(small.dw.view());
  k.repeated(key(1), [&] { small.ask(k); });
  CHECK(k.recorded() == 1);  // anew
  check_same_bits(small.read(), once(Precision::f32, 1024, 8, 8));
}

TEST_CASE("recorded work is forgotten when memory is released, whose addresses others will have", "[cuda]") {
  CudaBackend k(Precision::bf16);
  {
    const Products first(k, 9, 40, 24);
    for (int i = 0; i < 3; ++i) k.repeated(key(1), [&] { first.ask(k); });
    CHECK(k.recorded() == 1);
  }
  // The same key, as if the new weights stood where the old ones were; their shadow is somewhere else.
  const Products second(k, 9, 40, 24, 7);
  k.repeated(key(1), [&] { second.ask(k); });
  check_same_bits(second.read(), once(Precision::bf16, 9, 40, 24, 7));
}

TEST_CASE("what fails while it is recorded leaves the backend as it was", "[cuda]") {
  CudaBackend k;
  const Products products(k, 9, 40, 24);
  int calls = 0;
  const auto body = [&] {
    products.ask(k);
    if (++calls == 3) throw std::runtime_error("while it is recorded");  // met first, prepared, recorded
    products.ask(k);
  };
  k.repeated(key(1), body);
  CHECK_THROWS_WITH(k.repeated(key(1), body), "while it is recorded");
  CHECK(k.recorded() == 0);
  for (int i = 0; i < 2; ++i) {
    k.repeated(key(1), body);
    CHECK(k.recorded() == 1);
  }
  check_same_bits(products.read(), once(Precision::f32, 9, 40, 24));
}

TEST_CASE("what the host reads cannot be recorded", "[cuda]") {
  CudaBackend k;
  const Products products(k, 9, 40, 24);
  const auto body = [&] { k.sum_squares(products.x.view()); };
  k.repeated(key(1), body);
  CHECK_THROWS_AS(k.repeated(key(1), body), ELASTIFORM_GPU::DeviceError);
  CHECK(k.recorded() == 0);
}

namespace ELASTIFORM_GPU {
namespace {

GPU_KERNEL add_number(float* x, float number) { x[0] += number; }

Graph recorded(float* x, float number) {
  begin_recording(nullptr);
  launch({"add_number", {1}, {1}}, add_number, x, number);
  return end_recording(nullptr);
}

}  // namespace

TEST_CASE("recorded work that points to memory that was freed is refused", "[cuda]") {
  Graph graph = nullptr;
  {
    const DeviceArray<float> x(std::vector<float>{0});
    graph = recorded(x.data(), 1);
    play(graph, nullptr);
    CHECK(x.values() == std::vector<float>{1});
  }
  CHECK_THROWS_WITH(play(graph, nullptr), Catch::Matchers::Contains("a pointer to other memory than the device's"));
  destroy(graph);
}

TEST_CASE("of too many pieces of work the one that was not asked for longest is forgotten", "[cuda]") {
  constexpr std::int64_t kMost = 1024;
  const DeviceArray<float> x(std::vector<float>{0});
  GraphCache cache;
  for (std::int64_t i = 0; i < kMost; ++i) cache.add(key(i), recorded(x.data(), static_cast<float>(i)));
  CHECK(cache.size() == kMost);
  CHECK(cache.find(key(0)) != nullptr);  // so that 1 is the oldest
  cache.add(key(kMost), recorded(x.data(), 0.5f));
  CHECK(cache.size() == kMost);
  CHECK(cache.find(key(1)) == nullptr);
  for (const std::int64_t i : {std::int64_t{0}, std::int64_t{2}, kMost - 1, kMost}) play(cache.find(key(i)), nullptr);
  CHECK(x.values() == std::vector<float>{0 + 2 + 1023 + 0.5f});
  CHECK_FALSE(cache.met_before(key(7)));
  CHECK(cache.met_before(key(7)));
  cache.keep_only(cache.generation());
  CHECK(cache.size() == kMost);
  cache.keep_only(cache.generation() + 1);
  CHECK(cache.size() == 0);
  CHECK(cache.find(key(0)) == nullptr);
}

}  // namespace ELASTIFORM_GPU
}  // namespace elastiform
