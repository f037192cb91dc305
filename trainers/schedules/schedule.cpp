#include "trainers/schedules/schedule.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

constexpr std::array<ScheduleEntry, 3> kSchedules{{
    {"constant", "the peak rate after the warm-up"},
    {"wsd", "the peak rate, then a straight line to final_rate over the last `cooldown` of the steps"},
    {"cosine", "half a cosine from the end of the warm-up to final_rate"},
}};

}  // namespace

std::span<const ScheduleEntry> schedules() { return kSchedules; }

double warmup_factor(const TrainOptions& options, std::int64_t t) {
  const std::int64_t warmup = warmup_steps(options);
  return t < warmup ? static_cast<double>(t + 1) / static_cast<double>(warmup) : 1.0;
}

std::int64_t warmup_steps(const TrainOptions& options) { return std::llround(options.warmup * static_cast<double>(options.steps)); }

std::int64_t cooldown_begin(const TrainOptions& options) {
  if (options.schedule == "wsd") return options.steps - std::llround(options.cooldown * static_cast<double>(options.steps));
  return options.schedule == "cosine" ? warmup_steps(options) : options.steps;
}

double peak_rate(const TrainOptions& options) {
  const double ratio = static_cast<double>(sequences_of_step(options)) / static_cast<double>(options.base_sequences);
  if (options.scale_rate == "none") return options.rate;
  if (options.scale_rate == "linear") return options.rate * ratio;
  if (options.scale_rate == "sqrt") return options.rate * std::sqrt(ratio);
  throw InputError({"recipe: train.scale_rate", "one of none, linear, sqrt", '"' + options.scale_rate + '"', ""});
}

double learning_rate(const TrainOptions& options, std::int64_t t) {
  const double peak = peak_rate(options);
  if (std::ranges::none_of(kSchedules, [&](const ScheduleEntry& entry) { return entry.name == options.schedule; }))
    throw InputError({"recipe: train.schedule", "one of constant, wsd, cosine", '"' + options.schedule + '"', ""});
  if (t < warmup_steps(options)) return peak * warmup_factor(options, t);
  if (options.schedule == "constant") return peak;
  const double low = peak * options.final_rate;
  const std::int64_t begin = cooldown_begin(options);
  if (t < begin) return peak;
  const double done =
      std::clamp(static_cast<double>(t - begin) / static_cast<double>(std::max<std::int64_t>(1, options.steps - begin)), 0.0, 1.0);
  if (options.schedule == "cosine") return low + 0.5 * (peak - low) * (1 + std::cos(std::numbers::pi * done));
  return low + (peak - low) * (1 - done);
}

}  // namespace elastiform
