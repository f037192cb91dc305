#include "experiments/bench/support/steps.hpp"

#include <cmath>

#include "experiments/bench/support/elastic.hpp"
#include "experiments/bench/support/shape.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "supernet/cost_model.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

TEST_CASE("the shapes of the step benchmark are what their names say", "[experiments][bench]") {
  const Shape large = find_shape("large");
  const CostModel costs(large.space, {}, 1, [](const WeightTable&) { return std::int64_t{0}; });
  // GPT-2 124M has 124,439,808 parameters with 1,024 positions of 768.
  CHECK(costs.of(large.space.largest()).parameters == 124'439'808 - 512 * 768);
  CHECK(large.tokens() == 1024);
  CHECK(format(find_shape("medium").space.largest()) == "e384:6xh6f1536");
  CHECK(format(find_shape("small").space.largest()) == "e192:4xh3f768");
  CHECK_THROWS_AS(find_shape("huge"), InputError);
  CHECK(find_shape("gpt2").tokens() == 64 * 1024);
  for (const char* name : {"small", "medium", "large", "gpt2"}) {
    const Shape shape = find_shape(name);
    for (const Subnet& subnet : shape.list) shape.space.check(subnet, name);
    CHECK(work_text(shape).find(format(shape.list.back())) != std::string::npos);
  }
}

TEST_CASE("FLOPs of a step are 6 a parameter of a matrix and token, and attention's causal half", "[experiments][bench]") {
  const SearchSpace space = uniform_space(64, 1, 128, 256);
  // Matrices: 4 of 64x64, 2 of 64x256, head 64x256; attention: two products over (T+1)/2 keys of 64 channels.
  const double macs = 4 * 64 * 64 + 2 * 64 * 256 + 64 * 256 + 2 * 64 * 129 / 2.0;
  CHECK(model_flops(space, {space.largest()}, 6, 10) == Approx(6 * macs * 10).epsilon(1e-3));
}

TEST_CASE("the dense step that a subnet's step is compared with does the same work", "[experiments][bench]") {
  const Shape shape = find_shape("small");
  const Subnet subnet = shape.space.smallest();
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  TrainingSteps supernet(shape.space, backend, initial_weights(shape.space), 1, false);
  const SearchSpace exact = SearchSpace::of(shape.space.model(), subnet);
  TrainingSteps dense(exact, backend, extract(supernet.weights(), subnet), 1, false);
  const Weights before = extract(supernet.weights(), subnet);
  for (int i = 0; i < 2; ++i) {
    supernet.step(std::vector<Subnet>{subnet});
    dense.step(std::vector<Subnet>{exact.largest()});
  }
  const Weights inside = extract(supernet.weights(), subnet);
  double moved = 0, apart = 0;
  for (const TensorSpec& tensor : inside.table().tensors()) {
    const ConstView a = inside.view(tensor), b = dense.weights().view(tensor), start = before.view(tensor);
    for (std::int64_t i = 0; i < a.rows; ++i)
      for (std::int64_t j = 0; j < a.columns; ++j) {
        moved = std::max(moved, std::abs(static_cast<double>(a.row<float>(i)[j]) - static_cast<double>(start.row<float>(i)[j])));
        apart = std::max(apart, std::abs(static_cast<double>(a.row<float>(i)[j]) - static_cast<double>(b.row<float>(i)[j])));
      }
  }
  CHECK(moved > 1e-6);
  CHECK(apart < 1e-3 * moved);  // the norm that clips is added over other bands: its last bits differ
}

TEST_CASE("a median is the middle, or the mean of the two middle ones", "[experiments][bench]") {
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 3, 2}) == 2.5);
}

}  // namespace
}  // namespace elastiform
