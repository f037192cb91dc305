#pragma once

#include <string>
#include <utility>
#include <vector>

#include "supernet/parametrizations/parametrization.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

inline SearchSpace with_tuning(const SearchSpace& space, const Tuning& tuning) {
  ModelConfig model = space.model();
  model.tuning = tuning;
  return SearchSpace(model, space.embed(), space.depth(), space.blocks());
}

inline Tuning tuned_by(TuningMethod method) {
  Tuning tuning;
  tuning.method = method;
  return tuning;
}
inline Tuning bitfit() { return tuned_by(TuningMethod::bitfit); }
inline Tuning ssf(const ModelConfig& model) {
  Tuning tuning = tuned_by(TuningMethod::ssf);
  tuning.targets = linear_maps_of(model);
  return tuning;
}
inline Tuning adapters(int width = 3) {
  Tuning tuning = tuned_by(TuningMethod::adapter);
  tuning.width = width;
  return tuning;
}

inline Tuning prompts(int tokens = 3) {
  Tuning tuning = tuned_by(TuningMethod::prompt);
  tuning.tokens = tokens;
  return tuning;
}

inline Tuning prefixes(int keys = 3) {
  Tuning tuning = tuned_by(TuningMethod::prefix);
  tuning.keys = keys;
  return tuning;
}

/// LoRA of the maps of that name, or of all that the model has.
inline Tuning lora(const ModelConfig& model, int rank = 2, double alpha = 3, const std::vector<std::string>& targets = {}) {
  Tuning tuning = tuned_by(TuningMethod::lora);
  tuning.rank = rank, tuning.alpha = alpha;
  for (const std::string& name : targets) tuning.targets.insert(find_linear_map(name, "test"));
  if (targets.empty()) tuning.targets = linear_maps_of(model);
  return tuning;
}

/// The same with several ranks.
inline Tuning elastic_lora(const ModelConfig& model, std::vector<int> ranks = {1, 2, 4}, double alpha = 2) {
  Tuning tuning = lora(model, ranks.back(), alpha);
  tuning.ranks = std::move(ranks);
  return tuning;
}

}  // namespace elastiform
