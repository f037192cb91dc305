#include "experiments/bench/support/tuning.hpp"

#include "experiments/bench/support/elastic.hpp"
#include "experiments/bench/support/machine.hpp"
#include "experiments/bench/support/steps.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "supernet/parametrizations/parametrization.hpp"

namespace elastiform {
namespace {

/// The largest subnet alone, tuned by a method with what it takes.
SearchSpace tuned(const Shape& shape, const ParametrizationEntry& entry) {
  ModelConfig model = shape.space.model();
  model.tuning.method = entry.method;
  if (entry.how->has_targets()) model.tuning.targets = linear_maps_of(model);
  if (entry.how->has_rank()) model.tuning.rank = kUsualRank, model.tuning.alpha = kUsualAlpha;
  if (entry.how->has_width()) model.tuning.width = kUsualWidth;
  if (entry.how->has_keys()) model.tuning.keys = kUsualKeys;
  if (entry.how->has_tokens()) model.tuning.tokens = kUsualTokens;
  return SearchSpace::of(model, shape.space.largest());
}

std::int64_t learning(const SearchSpace& space) {
  const WeightTable table(space);
  std::int64_t sum = 0;
  for (const TensorSpec& tensor : table.tensors())
    if (tensor.trained) sum += tensor.rows * tensor.columns;
  return sum;
}

}  // namespace

std::vector<TuningRow> measure_tuning(const Shape& shape, Precision precision, const ThreadPool& pool, int repeats) {
  CpuBackend backend(pool, precision);
  const SearchSpace whole = SearchSpace::of(shape.space.model(), shape.space.largest());
  TrainingSteps full(whole, backend, initial_weights(whole, &backend), shape.sequences, false);
  const std::vector<Subnet> largest{whole.largest()};
  full.step(largest);
  full.step(largest);  // pages and clock
  std::vector<TuningRow> rows;
  for (const ParametrizationEntry& entry : parametrizations()) {
    if (entry.method == TuningMethod::full) continue;
    const SearchSpace space = tuned(shape, entry);
    TrainingSteps steps(space, backend, initial_weights(space, &backend), shape.sequences, false);
    steps.step(largest);
    std::vector<double> all, few, ratios;
    for (int i = 0; i < repeats; ++i) {
      const auto time_full = [&] { all.push_back(seconds_of([&] { full.step(largest); })); };
      const auto time_tuned = [&] { few.push_back(seconds_of([&] { steps.step(largest); })); };
      if (i % 2 == 0) time_full(), time_tuned();
      else time_tuned(), time_full();
      ratios.push_back(all.back() / few.back());
    }
    rows.push_back({std::string(entry.name), learning(space), 1e3 * median(all), 1e3 * median(few), median(ratios)});
  }
  return rows;
}

}  // namespace elastiform
