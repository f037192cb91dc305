#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {

/// What a rule works with during one step.
struct RuleContext {
  Backend& backend;
  Weights& weights;
  const ActiveBands& active;  // of all subnets of the step
  BandScratch& bands;
  std::int64_t step = 0;
  /// Forms the step's gradients at the weights as they are now, of the same batch and subnets at every call, and returns them; they hold
  /// until the next call, and may be written to. The first call's losses are the step's. A later one is given the weights of before any
  /// perturbation: what teachers knew then they teach again.
  FunctionRef<Weights&(const Weights* unperturbed)> pass;
};

/// Between forward-backward and the optimizer: from one or several passes to the gradients that the optimizer is given.
class StepRule {
 public:
  virtual ~StepRule() = default;
  /// Weights are bitwise as before when it returns. A first pass that is not finite is returned as it is: the trainer skips the step. Of a later
  /// one that is not finite, too; then a rule may have lost what it knew of the active bands.
  virtual Weights& gradients(const RuleContext& context) = 0;

  /// Bytes that it holds. Its state by name for checkpoints: like the weights, and numbers a band.
  virtual std::int64_t bytes() const { return 0; }
  virtual std::map<std::string, Weights*> moments() { return {}; }
  virtual std::map<std::string, std::vector<double>*> band_numbers() { return {}; }
};

struct StepRuleEntry {
  std::string_view name, help;
  /// Keys of [train] that it reads, separated by blanks.
  std::string_view keys;
  std::unique_ptr<StepRule> (*make)(const TrainOptions&, std::shared_ptr<const WeightTable>, const Backend&);
  /// Blocks of the weights' size that it holds.
  int blocks = 0;
  /// Passes that a step asks for, on average; nullptr: one.
  double (*passes)(const TrainOptions&) = nullptr;
  /// Numbers of 8 bytes that it holds for each band.
  int band_numbers = 0;

  bool reads(std::string_view key) const;
  bool repeats() const { return passes != nullptr; }
  double passes_of(const TrainOptions& options) const { return repeats() ? passes(options) : 1; }
};
/// plain, sam, looksam.
std::span<const StepRuleEntry> step_rules();
const StepRuleEntry& find_step_rule(std::string_view name);  // throws InputError
/// All keys that some rules read and others do not.
constexpr const char* kStepRuleKeys[] = {"rho", "adaptive", "look_every", "look_share"};

}  // namespace elastiform
