#pragma once

#include <string>
#include <vector>

#include "experiments/elastiform/compare/trial_store.hpp"
#include "search/statistics.hpp"

namespace elastiform {

/// What an experiment shows of one subnet of an arm, bits/byte on the report split.
struct ComparedSubnet {
  std::string subnet;
  double loss = 0;             // mean over seeds
  int diverged = 0;            // seeds without a finite loss
  PairedDifference seeds{};    // to the baseline, over seeds (Student's t); of the baseline itself: empty
  PairedDifference data{};     // the same over blocks of data, each the mean over seeds (bootstrap)
  double smallest_effect = 0;  // half of the 95 % interval over seeds: what these seeds could have told from none
  std::string verdict{};       // Holm-corrected over the whole table; "" of the baseline
};

/// Middle one of the seeds, with the least and the most.
struct Spread {
  double median = 0, least = 0, most = 0;
};

struct ComparedArm {
  std::string name;
  double rate = 0;
  std::int64_t steps = 0, tokens = 0, planned_bytes = 0, peak_bytes = 0;  // of a training; peak: the most of its seeds
  double flops = 0;
  Spread seconds{}, time_ratio{};  // ratio to the baseline's training of the same seed
  double joules = 0;               // mean; NaN where the machine does not tell
  std::vector<ComparedSubnet> subnets{};
};

/// The table of an experiment whose trials are all done.
std::vector<ComparedArm> compare_arms(const Experiment& experiment, const TrialStore& store, const std::vector<double>& rates);

std::string comparison_text(const Experiment& experiment, const std::vector<ComparedArm>& arms);
/// The same as Markdown, with the command that makes it and where.
std::string comparison_page(const Experiment& experiment, const std::vector<ComparedArm>& arms, const TrialPlace& place);
std::string comparison_json(const Experiment& experiment, const std::vector<ComparedArm>& arms);

}  // namespace elastiform
