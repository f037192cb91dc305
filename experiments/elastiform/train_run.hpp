#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/recipe.hpp"
#include "experiments/elastiform/train_plan.hpp"
#include "trainers/checkpoint.hpp"

namespace elastiform {

/// Losses on the first segments of the search split, nats per token.
struct EndLosses {
  double smallest = 0, middle = 0, largest = 0;
};

struct TrainOutcome {
  std::string folder;
  std::int64_t steps = 0, total = 0, skipped = 0;
  double seconds = 0;               // of training, earlier sessions included
  std::optional<EndLosses> losses;  // the last measured
  ModelConfig model;
  double bytes_per_token = 1;
  bool interrupted = false;  // Ctrl-C: saved, to be resumed
};

/// Networks that a new run keeps beside the one it trains: what a tuning begins with, and what teaches.
struct KeptNetworks {
  const LoadedSupernet *base = nullptr, *teacher = nullptr;
};

/// Trains a recipe into a new folder; InputError when something stands there already. Its recipe is stored with every default written out.
/// memory_options change no bit of the run. kept: written into the folder.
TrainOutcome train_new(const Recipe& recipe, const std::string& folder, const MemoryOptions& memory_options, const CommonOptions& common,
                       const KeptNetworks& kept = {});

/// Continues a run from its last checkpoint; `steps` lengthens its last stage. Only train.checkpoint_every and where the data are may be --set.
TrainOutcome train_resume(const std::string& folder, const std::vector<std::string>& set, std::optional<std::int64_t> steps,
                          const MemoryOptions& memory_options, const CommonOptions& common);

}  // namespace elastiform
