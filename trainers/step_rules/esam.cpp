#include "trainers/step_rules/esam.hpp"

#include <algorithm>

namespace elastiform {

int Esam::sharpest(const TrainOptions& options) {
  const int some = std::max(1, static_cast<int>(std::lround(options.sharp_share * options.sequences)));
  return some < options.sequences ? some : 0;
}

RulePasses Esam::passes(const TrainOptions& options) {
  const int some = sharpest(options);
  if (some == 0) return {.whole = 2};
  return {.whole = 1 + static_cast<double>(some) / options.sequences, .forward = 1};
}

}  // namespace elastiform
