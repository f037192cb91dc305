#include "trainers/weight_average.hpp"

#include <cmath>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/trainers/band_space.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"

namespace elastiform {

TEST_CASE("the average follows the weights of bands that move, each by its own count", "[trainers]") {
  const auto table = four_band_table();
  const TensorSpec& tensor = table->at("block.0.ffn.down");
  Weights weights(table, DType::float64);
  set_bands(weights, tensor, {1, 1, 1, 1});
  ReferenceBackend backend;
  WeightAverage average(0.6, weights, backend);
  std::vector<double> expected{1, 1, 1, 1};
  std::vector<int> count(4, 0);
  for (int t = 0; t < 20; ++t) {
    std::vector<bool> moved(static_cast<std::size_t>(table->band_count()), false);
    std::vector<double> values;
    for (std::size_t i = 0; i < 4; ++i) {
      const bool moves = t % static_cast<int>(i + 1) == 0;
      moved[static_cast<std::size_t>(tensor.first_band) + i] = moves;
      values.push_back(std::sin(t + static_cast<double>(i)));
      if (!moves) continue;
      const double decay = std::min(0.6, (1.0 + count[i]) / (10.0 + count[i]));
      expected[i] = decay * expected[i] + (1 - decay) * values[i];
      ++count[i];
    }
    set_bands(weights, tensor, values);
    average.update(backend, weights, ActiveBands(moved));
    for (std::size_t i = 0; i < 4; ++i) CHECK(average.weights().view(tensor).row<double>(3)[2 * i] == Approx(expected[i]).epsilon(1e-13));
  }
  CHECK(average.counts()[static_cast<std::size_t>(tensor.first_band)] == 20);
  CHECK(average.bytes() == 2 * table->elements() * 4 + table->band_count() * 8);  // float64 here
  CHECK(WeightAverage::state_bytes(*table) == table->elements() * 4 + table->band_count() * 8);
}

TEST_CASE("a checkpoint holds the average beside the weights, and either can be loaded", "[trainers]") {
  Fixture f;
  f.options.ema = GENERATE(0.0, 0.9);
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  for (int t = 0; t < 12; ++t) trainer.step();
  const std::string path = f.folder / "supernet.h5";
  save_checkpoint(trainer, "recipe", f.data->sha256(), path);
  const std::string trained = weights_hash(trainer.weights());
  CHECK(load_supernet(path).weights_hash == trained);
  if (f.options.ema == 0) {
    CHECK_THROWS_AS(load_supernet(path, Which::average), InputError);
    return;
  }
  const LoadedSupernet average = load_supernet(path, Which::average);
  CHECK(average.weights_hash == weights_hash(*trainer.average()));
  CHECK(weights_hash(average.weights) == average.weights_hash);
  CHECK(average.weights_hash != trained);
  CHECK(average.steps == 12);
}

}  // namespace elastiform
