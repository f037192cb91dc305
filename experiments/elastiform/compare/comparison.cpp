#include "experiments/elastiform/compare/comparison.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "experiments/elastiform/run_folder.hpp"

namespace elastiform {
namespace {

std::vector<Trial> trials_of(const TrialStore& store, const Arm& arm, double rate) {
  std::vector<Trial> trials;
  for (const Trial& trial : store.trials())
    if (trial.arm == arm.name && trial.purpose == TrialPurpose::compare && trial.rate == rate) trials.push_back(trial);
  std::ranges::sort(trials, {}, &Trial::seed);
  return trials;
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

Spread spread_of(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t n = values.size();
  return {(values[(n - 1) / 2] + values[n / 2]) / 2, values.front(), values.back()};
}

/// Of every block the mean over seeds, nats per byte.
std::vector<float> mean_blocks(const std::vector<Trial>& trials, std::size_t subnet) {
  std::vector<double> sums(trials.front().block_losses[subnet].size(), 0);
  for (const Trial& trial : trials)
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += trial.block_losses[subnet][i];
  std::vector<float> means;
  for (const double sum : sums) means.push_back(static_cast<float>(sum / static_cast<double>(trials.size())));
  return means;
}

ComparedSubnet compare_subnet(const std::string& name, std::size_t subnet, const std::vector<Trial>& arm,
                              const std::vector<Trial>& baseline) {
  ComparedSubnet result{.subnet = name};
  std::vector<double> losses, differences;
  for (std::size_t i = 0; i < arm.size(); ++i) {
    losses.push_back(arm[i].losses[subnet]);
    differences.push_back(arm[i].losses[subnet] - baseline[i].losses[subnet]);
    result.diverged += std::isfinite(losses.back()) ? 0 : 1;
  }
  result.loss = mean_of(losses);
  if (&arm == &baseline) return result;
  result.seeds = difference_over_seeds(differences);
  result.data = paired_difference(mean_blocks(arm, subnet), mean_blocks(baseline, subnet), 0).scaled(bits_per_byte(1));
  result.smallest_effect = (result.seeds.high - result.seeds.low) / 2;
  return result;
}

ComparedArm describe(const Arm& arm, const std::vector<Trial>& trials, const std::vector<Trial>& baseline) {
  const Trial& first = trials.front();
  ComparedArm result{.name = arm.name,
                     .rate = first.rate,
                     .steps = first.steps,
                     .tokens = first.tokens,
                     .planned_bytes = first.planned_bytes,
                     .flops = first.flops};
  std::vector<double> seconds, ratios, joules;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    seconds.push_back(trials[i].seconds);
    ratios.push_back(trials[i].seconds / baseline[i].seconds);
    joules.push_back(trials[i].joules);
    result.peak_bytes = std::max(result.peak_bytes, trials[i].peak_bytes);
  }
  result.seconds = spread_of(seconds);
  result.time_ratio = spread_of(ratios);
  result.joules = mean_of(joules);
  return result;
}

}  // namespace

std::vector<ComparedArm> compare_arms(const Experiment& experiment, const TrialStore& store, const std::vector<double>& rates) {
  std::vector<std::vector<Trial>> trials;
  for (std::size_t i = 0; i < experiment.arms.size(); ++i) trials.push_back(trials_of(store, experiment.arms[i], rates[i]));
  std::vector<ComparedArm> arms;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    arms.push_back(describe(experiment.arms[i], trials[i], trials.front()));
    for (std::size_t s = 0; s < experiment.subnets.size(); ++s)
      arms.back().subnets.push_back(compare_subnet(experiment.subnets[s], s, trials[i], trials.front()));
  }
  std::vector<PairedDifference> table;
  for (std::size_t i = 1; i < arms.size(); ++i)
    for (const ComparedSubnet& subnet : arms[i].subnets) table.push_back(subnet.seeds);
  const std::vector<std::string> all = verdicts(table, experiment.margin);
  std::size_t next = 0;
  for (std::size_t i = 1; i < arms.size(); ++i)
    for (ComparedSubnet& subnet : arms[i].subnets) {
      subnet.verdict = subnet.diverged > 0 ? "diverged" : all[next];
      ++next;
    }
  return arms;
}

}  // namespace elastiform
