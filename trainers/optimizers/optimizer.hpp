#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainers/optimizers/bands.hpp"
#include "trainers/options.hpp"

namespace elastiform {

/// One update's scalars.
struct UpdateStep {
  std::int64_t step = 0;      // updates done before this one, by any band
  double rate = 0;            // of the schedule, its warm-up included
  double warmup = 1;          // the part of `rate` that is the schedule's warm-up: 1 once it is over
  double gradient_scale = 1;  // clipping
};

/// Moves the weights of the active bands; state is lazy per band: what a step does not touch stays bitwise as it was (unless the
/// policy is dense). Reads and writes its state by name for checkpoints.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  virtual void update(Backend& backend, Weights& weights, const Weights& gradients, const ActiveBands& active, const UpdateStep& step) = 0;
  virtual std::int64_t bytes() const = 0;

  /// Moments by name ("m", "v") and per-band numbers by name ("count", …), for checkpoints.
  virtual std::map<std::string, Weights*> moments() = 0;
  virtual std::map<std::string, std::vector<double>*> band_numbers() = 0;
};

struct OptimizerEntry {
  std::string_view name, help;
  std::unique_ptr<Optimizer> (*make)(const TrainOptions&, std::shared_ptr<const WeightTable>, const Backend&);
  std::int64_t (*state_bytes)(const TrainOptions&, std::int64_t elements, std::int64_t bands);
};
/// In order of increasing complexity.
std::span<const OptimizerEntry> optimizers();
const OptimizerEntry& find_optimizer(std::string_view name);  // throws InputError

/// What happens to the state of a band that a step does not touch (methods: dense, lazy with the run's or the band's own clock, catch-up).
enum class BandPolicy : std::uint8_t { dense, lazy_global, lazy_local, catch_up };
BandPolicy parse_band_policy(std::string_view text);  // throws InputError

}  // namespace elastiform
