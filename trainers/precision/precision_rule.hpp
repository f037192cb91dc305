#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.hpp"
#include "supernet/network.hpp"
#include "trainers/optimizers/bands.hpp"
#include "trainers/options.hpp"

namespace elastiform {

/// What train.precision adds to a step besides the type that the backend computes in. The defaults add nothing.
class PrecisionRule {
 public:
  virtual ~PrecisionRule() = default;
  /// After weights have got their first values.
  virtual void initialize(Backend& /*backend*/, Weights& /*weights*/) {}
  /// The weights that the passes of a step read in the bands of `active`.
  virtual const Weights& begin_step(Backend& /*backend*/, const Weights& weights, const ActiveBands& /*active*/) { return weights; }
  /// Around the passes that form `gradients`.
  virtual void begin_passes(Backend& /*backend*/, const Weights& /*gradients*/) {}
  virtual void end_passes(Backend& /*backend*/) {}
  /// What losses are multiplied by, so that small gradients survive; the trainer divides gradients by it.
  virtual double loss_scale() const { return 1; }
  /// Whether LossReport::finite of each pass is asked for.
  virtual bool checks_passes() const { return false; }
  /// The step's passes are done; taken: their gradients were finite. Throws InputError when it cannot go on.
  virtual void end_step(std::span<const Subnet> /*subnets*/, std::span<const LossReport> /*losses*/, bool /*taken*/) {}
  /// The optimizer has moved the weights of the bands in `active`, in step t.
  virtual void updated(Backend& /*backend*/, Weights& /*weights*/, const ActiveBands& /*active*/, std::int64_t /*t*/) {}

  /// Its state, for checkpoints; lengths are constant.
  virtual std::map<std::string, std::vector<double>*> numbers() { return {}; }
  virtual std::int64_t bytes() const { return 0; }
  /// What a person should see of it; may be empty.
  virtual std::string summary() const { return ""; }
};

struct PrecisionEntry {
  std::string_view name, help;
  Precision compute;  // of the backend
  std::unique_ptr<PrecisionRule> (*make)(const TrainOptions&, std::shared_ptr<const WeightTable>, Backend&);
  bool rounds_operands = false;  // emulated: needs a backend that does so, and a second copy of the weights
  bool rounds_weights = false;   // those that are kept, after each update
  bool scales_losses = false;    // reads train.loss_scale
  bool delays_scales = false;    // reads train.fp8_window; its scales are of what one process saw
  /// Of its own numbers, beside the copy of the weights; nullptr: none.
  std::int64_t (*number_bytes)(const TrainOptions&, const WeightTable&) = nullptr;
};
/// f32, bf16, fp16, bf16-pure, fp8.
std::span<const PrecisionEntry> precisions();
const PrecisionEntry& find_precision(std::string_view name);  // throws InputError

/// Throws InputError when the backend, or so many ranks, cannot have the recipe's precision.
std::unique_ptr<PrecisionRule> make_precision(const TrainOptions& options, std::shared_ptr<const WeightTable> table, Backend& backend,
                                              int ranks);
/// What it keeps beside one weight and one gradient an element.
std::int64_t precision_bytes(const TrainOptions& options, const WeightTable& table);

}  // namespace elastiform
