#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainers/optimizers/band_clocks.hpp"
#include "trainers/optimizers/bands.hpp"
#include "trainers/options.hpp"

namespace elastiform {

/// State that does not have the weights' shape: codes, scales, a number a row. Zero-initialised, in a backend's memory.
class StateArray {
 public:
  StateArray(std::int64_t count, DType dtype, MemorySpace& memory);
  std::int64_t count() const { return count_; }
  DType dtype() const { return dtype_; }
  std::int64_t bytes() const { return count_ * bytes_of(dtype_); }
  MemorySpace& memory() const { return *memory_; }
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  View matrix(std::int64_t first, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
    return {data_.get() + first * bytes_of(dtype_), rows, columns, ld, dtype_};
  }
  View row(std::int64_t first, std::int64_t columns) { return matrix(first, 1, columns, columns); }

 private:
  std::int64_t count_;
  DType dtype_;
  MemorySpace* memory_;
  MemoryBlock data_;
};

/// Moves the weights of the active bands; state is lazy per band: what a step does not touch stays bitwise as it was (unless the
/// policy is dense). Reads and writes its state by name for checkpoints.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// Gradients may be written to: they are spent.
  virtual void update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) = 0;
  virtual std::int64_t bytes() const = 0;
  /// Whether an update also moves bands that are not active: the policy is dense.
  virtual bool moves_idle() const = 0;

  /// For checkpoints: moments by name ("m", "v"), per-band numbers by name ("count", …), and what has another shape.
  virtual std::map<std::string, Weights*> moments() { return {}; }
  virtual std::map<std::string, std::vector<double>*> band_numbers() = 0;
  virtual std::map<std::string, StateArray*> arrays() { return {}; }
};

/// One whose moments have the weights' shape: one of them, or two.
class MomentOptimizer : public Optimizer {
 public:
  MomentOptimizer(const TrainOptions& options, const MomentRule& rule, std::shared_ptr<const WeightTable> table, const Backend& backend);
  std::int64_t bytes() const final;
  bool moves_idle() const final { return clocks_.moves_idle(); }
  std::map<std::string, Weights*> moments() final;
  std::map<std::string, std::vector<double>*> band_numbers() final { return clocks_.numbers(); }

 protected:
  /// Advances the clocks and lists the rectangles of this update.
  void begin_update(const WeightTable& table, const ActiveBands& active, const UpdateStep& step);
  const BandClocks::Band& clock(const BandRectangle& rectangle) const { return clocks_[rectangle.band]; }
  /// What idle steps did to the moments of a rectangle.
  void fade(Backend& backend, const BandRectangle& rectangle);
  ConstView gradient_of(const BandRectangle& rectangle, const Weights& gradients, const ActiveBands& active) const {
    return active[rectangle.band] ? rectangle.of(gradients) : ConstView{};  // policy dense: none is zero
  }

  TrainOptions options_;
  std::vector<Weights> moments_;  // m, and v
  std::vector<BandRectangle> rectangles_;

 private:
  BandClocks clocks_;
};

/// What idle steps did to the moments of a band; v may be empty.
void fade(Backend& backend, const BandClocks::Band& clock, View m, View v);

struct OptimizerEntry {
  std::string_view name, help;
  /// Keys of [train] that it reads beside those of all optimizers, separated by blanks.
  std::string_view keys;
  std::unique_ptr<Optimizer> (*make)(const TrainOptions&, std::shared_ptr<const WeightTable>, const Backend&);
  /// Bytes that make() will take in float32.
  std::int64_t (*state_bytes)(const TrainOptions&, const WeightTable&);
  /// Sets the options whose usual values are its own.
  void (*set_defaults)(TrainOptions&) = [](TrainOptions&) {};
  /// Why it cannot work under a policy; empty: it can.
  std::string_view (*refuses)(BandPolicy) = [](BandPolicy) { return std::string_view(); };

  bool reads(std::string_view key) const;
};
/// All keys that some optimizers read and others do not.
constexpr const char* kOptimizerKeys[] = {"beta1", "beta2", "eps", "momentum", "nesterov", "trust"};
/// In order of increasing complexity.
std::span<const OptimizerEntry> optimizers();
const OptimizerEntry& find_optimizer(std::string_view name);  // throws InputError
/// Nothing is corrected by a clock, so lazy-global would be lazy-local under another name.
std::string_view refuses_without_corrections(BandPolicy policy);
constexpr const char* kNoDenseRatio = "norms over weights that a step does not use say nothing of what it does";  // methods H5
/// Throws InputError when the optimizer refuses the policy.
void check_policy(const TrainOptions& options);
std::unique_ptr<Optimizer> make_optimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend);

}  // namespace elastiform
