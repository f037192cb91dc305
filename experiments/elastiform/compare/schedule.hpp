#pragma once

#include <string>
#include <vector>

#include "experiments/elastiform/compare/trial_store.hpp"

namespace elastiform {

/// Runs what the store lacks of an experiment, in `folder`: probes of speed where seconds are equal, trials that tune rates, then every seed,
/// arms in turn, so that what else the machine does hits all alike. Returns the rate of each arm. Throws Interrupted after Ctrl-C: what is
/// done is kept.
std::vector<double> run_trials(const Experiment& experiment, const std::string& folder, TrialStore& store, const CommonOptions& common);

/// How many trainings it takes, and of how many steps where that is known before.
std::string trials_text(const Experiment& experiment);

/// Of the values those with which an arm has the baseline's budget: steps for the same steps, tokens or FLOPs. seconds_per_step: of probes,
/// where seconds are equal.
std::int64_t steps_of(const Experiment& experiment, const Arm& arm, double seconds_per_step, double baseline_seconds_per_step);

}  // namespace elastiform
