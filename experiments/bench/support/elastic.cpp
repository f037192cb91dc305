#include "experiments/bench/support/elastic.hpp"

#include <algorithm>
#include <memory>
#include <set>

#include "experiments/bench/support/machine.hpp"
#include "experiments/bench/support/steps.hpp"
#include "kernels/cpu/cpu_backend.hpp"

namespace elastiform {

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

std::vector<ElasticRow> measure_elastic(const Shape& shape, Precision precision, const ThreadPool& pool, int repeats) {
  CpuBackend backend(pool, precision);
  TrainingSteps supernet(shape.space, backend, initial_weights(shape.space), shape.sequences, false);
  // Touches every page of the optimizer's state, which the first update of any band would otherwise pay for, and warms the clock.
  const std::vector<Subnet> largest{shape.space.largest()};
  supernet.step(largest);
  supernet.step(largest);
  std::vector<ElasticRow> rows;
  std::set<Subnet> seen;
  for (const Subnet& subnet : shape.list) {
    if (!seen.insert(subnet).second) continue;  // its shape would not be new
    const std::vector<Subnet> one{subnet};
    const double first = seconds_of([&] { supernet.step(one); }), second = seconds_of([&] { supernet.step(one); });
    ElasticRow row{.subnet = format(subnet)};
    row.first_over_second = first / second;
    const SearchSpace exact = SearchSpace::of(shape.space.model(), subnet);
    TrainingSteps dense(exact, backend, extract(supernet.weights(), subnet), shape.sequences, false);
    const std::vector<Subnet> whole{exact.largest()};
    dense.step(whole);
    std::vector<double> inside, alone, ratios;
    for (int i = 0; i < repeats; ++i) {
      const auto time_supernet = [&] { inside.push_back(seconds_of([&] { supernet.step(one); })); };
      const auto time_dense = [&] { alone.push_back(seconds_of([&] { dense.step(whole); })); };
      if (i % 2 == 0) time_supernet(), time_dense();
      else time_dense(), time_supernet();
      ratios.push_back(inside.back() / alone.back());
    }
    row.supernet_ms = 1e3 * median(inside);
    row.dense_ms = 1e3 * median(alone);
    row.ratio = median(ratios);
    rows.push_back(row);
  }
  return rows;
}

}  // namespace elastiform
