#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "trainers/options.hpp"

namespace elastiform {

/// train.rate, multiplied as train.scale_rate says with the sequences of a step over train.base_sequences: linear for SGD (arXiv
/// 1706.02677), by the square root for Adam's kind (arXiv 1404.5997). Throws InputError for another word.
double peak_rate(const TrainOptions& options);

/// Learning rate of step t (from 0), with the peak rate as `rate`. Warmup: rate·(t+1)/warmup. Then constant; wsd (arXiv 2404.06395): constant until the last
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
