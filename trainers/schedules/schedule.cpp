#include "trainers/schedules/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace elastiform {

std::int64_t warmup_steps(const TrainOptions& options) { return std::llround(options.warmup * static_cast<double>(options.steps)); }

std::int64_t cooldown_begin(const TrainOptions& options) {
  if (options.schedule == "wsd") return options.steps - std::llround(options.cooldown * static_cast<double>(options.steps));
  return options.schedule == "cosine" ? warmup_steps(options) : options.steps;
}

double learning_rate(const TrainOptions& options, std::int64_t t) {
  const std::int64_t warmup = warmup_steps(options);
  if (t < warmup) return options.rate * static_cast<double>(t + 1) / static_cast<double>(warmup);
  if (options.schedule == "constant") return options.rate;
  const double low = options.rate * options.final_rate;
  const std::int64_t begin = cooldown_begin(options);
  if (t < begin) return options.rate;
  const double done = std::clamp(static_cast<double>(t - begin) / static_cast<double>(std::max<std::int64_t>(1, options.steps - begin)), 0.0, 1.0);
  if (options.schedule == "cosine") return low + 0.5 * (options.rate - low) * (1 + std::cos(std::numbers::pi * done));
  return low + (options.rate - low) * (1 - done);
}

}  // namespace elastiform
