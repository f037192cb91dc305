#include "experiments/elastiform/compare/schedule.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/train_plan.hpp"
#include "search/evaluator.hpp"

namespace elastiform {
namespace {

// Rates are chosen with a seed that no comparison uses.
constexpr std::int64_t kTuningSeed = 1'000'000;
constexpr std::int64_t kProbeSteps = 100;
constexpr std::int64_t kProbeRounds = 3;  // alternating; the medians count

double tokens_of_step(const Recipe& recipe) { return static_cast<double>(sequences_of_step(recipe.train)) * recipe.space.model().context; }

class Schedule {
 public:
  Schedule(const Experiment& experiment, std::string folder, TrialStore& store, const CommonOptions& common)
      : experiment_(experiment), folder_(std::move(folder)), store_(store), common_(common) {}

  std::vector<double> run() {
    if (experiment_.equal == EqualBudget::seconds) probe();
    for (const Arm& arm : experiment_.arms)
      steps_.push_back(steps_of(experiment_, arm, speed_[arm.name], speed_[experiment_.arms[0].name]));
    std::vector<double> rates;
    for (std::size_t i = 0; i < experiment_.arms.size(); ++i) rates.push_back(best_rate(i));
    for (std::int64_t seed = 0; seed < experiment_.seeds; ++seed)
      for (std::size_t i = 0; i < experiment_.arms.size(); ++i)
        done({.arm = experiment_.arms[i].name, .purpose = TrialPurpose::compare, .seed = seed, .steps = steps_[i], .rate = rates[i]}, i);
    return rates;
  }

 private:
  void probe() {
    std::map<std::string, std::vector<double>> seconds;
    for (std::int64_t round = 0; round < kProbeRounds; ++round)
      for (std::size_t i = 0; i < experiment_.arms.size(); ++i) {
        const Arm& arm = experiment_.arms[i];
        const double rate = arm.rates.empty() ? experiment_.recipe_of(arm, {}).train.rate : arm.rates.front();
        const Trial trial =
            done({.arm = arm.name, .purpose = TrialPurpose::probe, .seed = kTuningSeed + round, .steps = kProbeSteps, .rate = rate}, i);
        seconds[arm.name].push_back(trial.seconds / kProbeSteps);
      }
    for (auto& [arm, values] : seconds) {
      std::ranges::sort(values);
      speed_[arm] = values[values.size() / 2];
    }
  }

  double best_rate(std::size_t index) {
    const Arm& arm = experiment_.arms[index];
    if (arm.rates.empty()) return experiment_.recipe_of(arm, {}).train.rate;
    if (arm.rates.size() == 1) return arm.rates.front();
    double best = arm.rates.front(), least = std::numeric_limits<double>::infinity();
    for (const double rate : arm.rates) {
      const Trial trial =
          done({.arm = arm.name, .purpose = TrialPurpose::tune, .seed = kTuningSeed, .steps = steps_[index], .rate = rate}, index);
      if (trial.search_loss < least) least = trial.search_loss, best = rate;
    }
    return best;
  }

  /// From the store, or trained now.
  Trial done(Trial trial, std::size_t index) {
    if (const auto found = store_.find(trial)) return *found;
    if (interrupted()) throw Interrupted();
    run_trial(experiment_, experiment_.arms[index], folder_ + "/" + trial.name(), common_, trial);
    store_.add(trial);
    std::string scores;
    if (std::isfinite(trial.search_loss)) scores = fmt::format(", search split {:.4f} bits/byte", trial.search_loss);
    fmt::print(text_stream(common_.json), "{} {} seed {} rate {:g}: {} steps in {}{}\n", name_of(trial.purpose), trial.arm, trial.seed,
               trial.rate, trial.steps, duration_text(trial.seconds), scores);
    std::fflush(text_stream(common_.json));
    return trial;
  }

  const Experiment& experiment_;
  std::string folder_;
  TrialStore& store_;
  const CommonOptions& common_;
  std::map<std::string, double> speed_;  // seconds a step, by arm
  std::vector<std::int64_t> steps_;      // of each arm
};

}  // namespace

std::int64_t steps_of(const Experiment& experiment, const Arm& arm, double seconds_per_step, double baseline_seconds_per_step) {
  const Recipe recipe = experiment.recipe_of(arm, {}), baseline = experiment.recipe_of(experiment.arms.front(), {});
  if (experiment.equal == EqualBudget::steps) return baseline.train.steps;
  const auto steps = static_cast<double>(baseline.train.steps);
  double ratio = 1;
  if (experiment.equal == EqualBudget::tokens) ratio = tokens_of_step(baseline) / tokens_of_step(recipe);
  if (experiment.equal == EqualBudget::flops)
    ratio = expected_flops(baseline) / steps / (expected_flops(recipe) / static_cast<double>(recipe.train.steps));
  if (experiment.equal == EqualBudget::seconds) ratio = baseline_seconds_per_step / seconds_per_step;
  if (!std::isfinite(ratio)) throw std::runtime_error("arm " + arm.name + ": a probe of its speed has no time");
  return std::max<std::int64_t>(1, std::llround(steps * ratio));
}

std::vector<double> run_trials(const Experiment& experiment, const std::string& folder, TrialStore& store, const CommonOptions& common) {
  return Schedule(experiment, folder, store, common).run();
}

std::string trials_text(const Experiment& experiment) {
  const bool timed = experiment.equal == EqualBudget::seconds;
  std::string text;
  std::int64_t trainings = 0;
  double flops = 0;
  for (const Arm& arm : experiment.arms) {
    const std::int64_t trials = experiment.seeds + (arm.rates.size() > 1 ? static_cast<std::int64_t>(arm.rates.size()) : 0);
    trainings += trials + (timed ? kProbeRounds : 0);
    if (timed) {
      text += fmt::format("{}: {} probes of {} steps, which decide how many steps {} trainings take\n", arm.name, kProbeRounds, kProbeSteps,
                          trials);
      continue;
    }
    const Recipe recipe = experiment.recipe_of(arm, {});
    const std::int64_t steps = steps_of(experiment, arm, 0, 0);
    flops += expected_flops(recipe) / static_cast<double>(recipe.train.steps) * static_cast<double>(steps * trials);
    text += fmt::format("{}: {} trainings of {} steps\n", arm.name, trials, steps);
  }
  if (timed) return text + fmt::format("{} trainings, probes included\n", trainings);
  return text + fmt::format("{} trainings, {:.1f} TFLOP\n", trainings, flops * 1e-12);
}

}  // namespace elastiform
