#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "supernet/network.hpp"
#include "supernet/plan_cache.hpp"
#include "trainers/optimizers/bands.hpp"
#include "trainers/options.hpp"

namespace elastiform {

class FrozenTeacher;

/// What an objective works with during one step.
struct ObjectiveContext {
  Backend& backend;
  const Network& network;
  const Subnet& largest;  // of the network's space
  const Weights& weights;
  Weights& gradients;
  Arena& arena;
  PlanCache& plans;
  bool accumulate = true;  // what begin_gradients said: false: the first subnet writes gradients
  double share = 1;        // of the step's mean that the batch is, 1 / its micro-batches; times the loss scale
  double label_smoothing = 0;
  /// Where the hidden states of a teacher [rows of the head, C] stay for a second pass over the same batch; empty: in the arena. In a second pass, at
  /// perturbed weights, `teaching` are those that the states were made with, and the teacher is what it was in the first.
  View teacher{};
  const Weights* teaching = nullptr;
  const FrozenTeacher* frozen = nullptr;  // of the recipe; null: none
  View token_losses{};                    // [1, rows of the head]: receives the losses from labels of the first subnet; empty: nobody asks
  BlockDone block_done = kNobodyIsTold;
  PassDropout dropout = {};
  PassNoise noise = {};                      // of the batch
  std::int64_t activation_limit = kNoLimit;  // of plans, where it is less than the arena
  bool checks_passes = false;                // LossOptions::checks_gradient
  GrowingArena* away = nullptr;              // where plans send what waits outside the arena
};

struct Objective;

/// Makes `gradients` ready for the passes of a micro-batch. Where the first subnet covers all that the others touch, as in a step of one subnet
/// and in a sandwich, its pass writes them and only what lookups add to is cleared; else all of it is. Returns whether the first
/// accumulates.
bool begin_gradients(Backend& backend, const Network& network, Weights& gradients, std::span<const Subnet> subnets,
                     const Objective& objective, const ActiveBands& active, BandScratch& scratch);

/// Forward of one subnet: context.token_losses receive what the labels cost, as a training pass would have it.
void label_losses(const ObjectiveContext& context, const Subnet& subnet, const Batch& batch);

/// From the subnets of a step to gradients: forward and backward of each, once, its loss weighted by share/K so that gradients are the mean over
/// the K subnets, and over the micro-batches of the step once these are added.
struct Objective {
  virtual ~Objective() = default;
  /// `reports` receives one report a subnet.
  virtual void forward_backward(const ObjectiveContext& context, std::span<const Subnet> subnets, const Batch& batch,
                                std::vector<LossReport>& reports) const = 0;
  virtual bool needs_largest() const { return false; }  // first among the subnets of every step: it teaches the others
  virtual bool needs_teacher() const { return false; }  // the recipe's frozen one (frozen_teacher.hpp)
  /// Of the distance from a teacher's final hidden states, for the subnets that it teaches; 0: it is not looked at.
  virtual double hidden_weight() const { return 0; }
  /// The subnets of a step that a teacher teaches: from this one on.
  std::size_t first_taught(std::size_t subnets) const { return needs_teacher() ? 0 : needs_largest() ? 1 : subnets; }
  /// Then the teacher's hidden states stand in the arena beside Network's own plan, or in ObjectiveContext::teacher.
  bool is_taught() const { return needs_largest() || needs_teacher(); }
  /// Share of an image's patches that its passes leave out, and whether what they guess is normalised; 0: they see whole images.
  virtual double mask_ratio() const { return 0; }
  virtual bool normalizes_patches() const { return false; }
  /// Whether its passes form gradients of a tensor that their subnet has: all but the decoder's, or, where patches are left out, the head's.
  bool trains(const TensorSpec& tensor) const;
};

struct ObjectiveEntry {
  std::string_view name, help;
  std::string_view keys;  // of a stage that it reads, beside those that all do; of kObjectiveKeys
  std::unique_ptr<Objective> (*make)(const Stage&);
  bool reads(std::string_view key) const { return names_key(keys, key); }
};
inline constexpr const char* kObjectiveKeys[] = {"teacher_weight", "temperature", "hidden_weight", "mask_ratio", "normalize_patches"};
/// labels, labels+largest, labels+teacher, teacher, masked_patches.
std::span<const ObjectiveEntry> objectives();
const ObjectiveEntry& find_objective(std::string_view name);    // throws InputError
std::unique_ptr<Objective> make_objective(const Stage& stage);  // the same

}  // namespace elastiform
