#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "trainers/options.hpp"

namespace elastiform {

/// Learning rate of step t (from 0). Warmup: rate·(t+1)/warmup. Then constant; wsd (arXiv 2404.06395): constant until the last
/// `cooldown` share of the steps, then linear to final_rate·rate; cosine (arXiv 1608.03983): half a cosine down to final_rate·rate.
/// Throws InputError for a schedule that is none.
double learning_rate(const TrainOptions& options, std::int64_t t);

/// The warm-up's factor in learning_rate(t): (t+1)/warmup_steps, then 1.
double warmup_factor(const TrainOptions& options, std::int64_t t);

struct ScheduleEntry {
  std::string_view name, help;
};
/// constant, wsd, cosine.
std::span<const ScheduleEntry> schedules();

std::int64_t warmup_steps(const TrainOptions& options);
/// First step of the cooldown; options.steps when there is none.
std::int64_t cooldown_begin(const TrainOptions& options);

}  // namespace elastiform
