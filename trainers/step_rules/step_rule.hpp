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

/// What a rule asks a pass for.
struct RulePass {
  /// Of a later pass: the weights of before any perturbation. What teachers knew then they teach again. nullptr: the step's first pass.
  const Weights* unperturbed = nullptr;
  /// Of a later pass: how many sequences of each micro-batch it covers, those whose loss in the step's first subnet has risen most since the
  /// first pass; gradients are of their mean loss. 0: all. After one of fewer, the step has no other.
  int sharpest = 0;
};

/// What a rule works with during one step.
struct RuleContext {
  Backend& backend;
  Weights& weights;
  const ActiveBands& active;  // of all subnets of the step
  BandScratch& bands;
  std::int64_t step = 0;
  /// Forms the step's gradients at the weights as they are now, of the same batch and subnets at every call, and returns them; they hold
  /// until the next call, and may be written to. The first call's losses are the step's.
  FunctionRef<Weights&(const RulePass& asked)> pass;
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

/// How often a step goes through the network, on average.
struct RulePasses {
  double whole = 1;    // forward and backward of all sequences and subnets
  double forward = 0;  // forward of all sequences in the first subnet
};

struct StepRuleEntry {
  std::string_view name, help;
  /// Keys of [train] that it reads, separated by blanks.
  std::string_view keys;
  std::unique_ptr<StepRule> (*make)(const TrainOptions&, std::shared_ptr<const WeightTable>, const Backend&);
  /// Blocks of the weights' size that it holds.
  int blocks = 0;
  /// Passes that a step asks for; nullptr: one.
  RulePasses (*passes)(const TrainOptions&) = nullptr;
  /// Numbers of 8 bytes that it holds for each band.
  int band_numbers = 0;
  /// RulePass::sharpest; nullptr: all.
  int (*sharpest)(const TrainOptions&) = nullptr;

  bool reads(std::string_view key) const;
  bool repeats() const { return passes != nullptr; }
  RulePasses passes_of(const TrainOptions& options) const { return repeats() ? passes(options) : RulePasses{}; }
  int sharpest_of(const TrainOptions& options) const { return sharpest != nullptr ? sharpest(options) : 0; }
};
/// plain, sam, looksam, esam.
std::span<const StepRuleEntry> step_rules();
const StepRuleEntry& find_step_rule(std::string_view name);  // throws InputError
/// All keys that some rules read and others do not.
constexpr const char* kStepRuleKeys[] = {"rho", "adaptive", "look_every", "look_share", "uphill_share", "sharp_share"};
/// Throws InputError where the rule cannot work with what else [train] says; `where` is the key's place.
void check_step_rule(const TrainOptions& options, const std::string& where);

}  // namespace elastiform
