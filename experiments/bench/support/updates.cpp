#include "experiments/bench/support/updates.hpp"

#include <memory>

#include "experiments/bench/support/elastic.hpp"
#include "experiments/bench/support/machine.hpp"
#include "experiments/bench/support/steps.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {
namespace {

/// One optimizer with weights of its own; the gradients are those of all.
struct Updates {
  Weights weights;
  std::unique_ptr<Optimizer> optimizer;
  std::int64_t done = 0;

  Updates(const Shape& shape, const std::string& name, Backend& backend) : weights(initial_weights(shape.space, &backend)) {
    TrainOptions options;
    find_optimizer(name).set_defaults(options);
    options.optimizer = name;
    optimizer = make_optimizer(options, weights.shared_table(), backend);
  }
  double seconds(Backend& backend, Weights& gradients, const ActiveBands& active) {
    return seconds_of([&] { optimizer->update(backend, weights, gradients, active, {.step = done++, .rate = 1e-4}); });
  }
};

}  // namespace

std::vector<UpdateRow> measure_updates(const Shape& shape, const ThreadPool& pool, int repeats) {
  CpuBackend backend(pool);
  Weights gradients = initial_weights(shape.space, &backend);  // any numbers of a usual size; LAMB leaves others
  const std::vector<Subnet> largest{shape.space.largest()};
  const ActiveBands active(gradients.table(), largest);
  std::vector<UpdateRow> rows;
  for (const OptimizerEntry& entry : optimizers()) {
    Updates adamw(shape, "adamw", backend), other(shape, std::string(entry.name), backend);
    for (int i = 0; i < 3; ++i) adamw.seconds(backend, gradients, active), other.seconds(backend, gradients, active);  // touches the pages
    std::vector<double> times, ratios;
    for (int i = 0; i < repeats; ++i) {
      const double base = adamw.seconds(backend, gradients, active);
      times.push_back(other.seconds(backend, gradients, active));
      ratios.push_back(times.back() / base);
    }
    const double elements = static_cast<double>(gradients.table().elements());
    rows.push_back({.optimizer = std::string(entry.name),
                    .ms = 1e3 * median(times),
                    .ratio = median(ratios),
                    .state_bytes = static_cast<double>(other.optimizer->bytes()) / elements});
  }
  return rows;
}

}  // namespace elastiform
