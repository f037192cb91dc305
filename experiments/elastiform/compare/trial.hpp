#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/compare/experiment.hpp"

namespace elastiform {

/// What a trial is for.
enum class TrialPurpose : std::uint8_t { probe, tune, compare };
std::string_view name_of(TrialPurpose purpose);

/// One training of an arm, before and after.
struct Trial {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

  std::string arm;
  TrialPurpose purpose = TrialPurpose::compare;
  std::int64_t seed = 0, steps = 0;
  double rate = 0;

  double seconds = kUnknown;       // of training steps
  double flops = 0;                // forward and backward products, expected over the stages
  std::int64_t tokens = 0;         // of text
  std::int64_t planned_bytes = 0;  // weights, gradients, optimizer state, activations, workspace
  std::int64_t peak_bytes = 0;     // of the process that trained, program and libraries included
  double joules = kUnknown;        // of the whole machine meanwhile; NaN when the training was resumed, too
  double search_loss = kUnknown;   // bits/byte of the first subnet on the search split; NaN: diverged
  // On the report split, one entry a subnet of the experiment; only of TrialPurpose::compare.
  std::vector<double> losses{};                    // bits/byte
  std::vector<std::vector<float>> block_losses{};  // nats per byte

  std::string name() const;  // of its folder
  bool same_training(const Trial& other) const;
};

/// Trains the arm's recipe with the trial's seed, rate and steps in a process of its own, `folder` being its run, and scores it: the running
/// average where the recipe keeps one (train.ema). A checkpoint of the same training is continued, whatever else stands there goes. Throws
/// Interrupted after Ctrl-C, and std::runtime_error naming the log when the training failed.
void run_trial(const Experiment& experiment, const Arm& arm, const std::string& folder, const CommonOptions& common, Trial& trial);

/// The settings that make the arm's recipe the trial's.
std::vector<std::string> settings_of(const Trial& trial);

}  // namespace elastiform
