#include "experiments/elastiform/compare/trial.hpp"

#include <fmt/core.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <system_error>

#include "experiments/elastiform/compare/child.hpp"
#include "experiments/elastiform/compare/energy_meter.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/train_plan.hpp"
#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "version.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;
constexpr std::array<std::string_view, 3> kPurposes{"probe", "tune", "compare"};

std::string last_line(const std::string& path) {
  std::ifstream file(path);
  std::string last;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) last = line;
  return last;
}

// The training alone, whatever it takes to start; NaN when the log has no row.
double seconds_trained(const RunPaths& paths) {
  const auto row = nlohmann::json::parse(last_line(paths.training_log()), nullptr, false);
  return row.is_object() ? row.value("seconds", Trial::kUnknown) : Trial::kUnknown;
}

// What `train --json` says at its end: the peak of its own process, program and libraries included.
std::int64_t peak_of(const std::string& log) {
  const auto outcome = nlohmann::json::parse(last_line(log), nullptr, false);
  return outcome.is_object() ? outcome.value("peak_bytes", std::int64_t{0}) : 0;
}

/// Whether the run in the folder has a checkpoint of this very training, by this build. Else it is what an experiment that changed left, or a
/// training that was killed before its first checkpoint.
bool can_go_on(const Recipe& recipe, const RunPaths& paths) {
  std::error_code error;
  if (!fs::exists(paths.supernet(), error) || !fs::exists(paths.recipe(), error)) return false;
  try {
    Recipe expected = recipe, found = Recipe::load(paths.recipe());
    expected.data.text = found.data.text = "";  // places; the run knows text and tokenizer by their SHA-256
    if (expected.data.tokenizer != "bytes" && found.data.tokenizer != "bytes") expected.data.tokenizer = found.data.tokenizer;
    return found.text() == expected.text() && Hdf5Reader(paths.supernet(), "supernet").text_attribute("/", "commit") == ELASTIFORM_COMMIT;
  } catch (const InputError&) {
    return false;
  }
}

/// Arguments of train for a trial whose folder no other process writes to; `resumed`: whether it goes on there.
std::vector<std::string> training_arguments(const Experiment& experiment, const Arm& arm, const Trial& trial, const std::string& folder,
                                            bool& resumed) {
  if (std::error_code error; fs::exists(folder, error)) {
    const FolderLock lock(folder);  // InputError names the process that trains there
    resumed = can_go_on(experiment.recipe_of(arm, settings_of(trial)), RunPaths{folder});
    if (!resumed) fs::remove_all(folder);
  }
  if (resumed) return {"train", "--json", "--resume", folder};
  std::vector<std::string> arguments = {"train", "--json", experiment.recipe_path(arm), "--run", folder};
  for (const std::string& one : experiment.settings_of(arm, settings_of(trial))) arguments.insert(arguments.end(), {"--set", one});
  return arguments;
}

void train(const Experiment& experiment, const Arm& arm, const std::string& folder, const CommonOptions& common, Trial& trial) {
  bool resumed = false;
  std::vector<std::string> arguments = training_arguments(experiment, arm, trial, folder, resumed);
  arguments.insert(arguments.end(), {"--threads", std::to_string(threads_of(common)), "--device", std::string(name_of(common.device))});
  EnergyMeter meter(common.device);
  const std::string log = folder + ".log";
  const int status = run_self(arguments, log, [&meter] { meter.joules(); });
  if (status == kInterruptedStatus || interrupted()) throw Interrupted();
  if (status != 0)
    throw std::runtime_error(
        fmt::format("arm {}, seed {}: the training ended with status {}: {} ({})", trial.arm, trial.seed, status, last_line(log), log));
  trial.joules = resumed ? Trial::kUnknown : meter.joules();  // nobody metered what came before
  trial.peak_bytes = peak_of(log);
  trial.seconds = seconds_trained(RunPaths{folder});
}

}  // namespace

std::string_view name_of(TrialPurpose purpose) { return kPurposes[static_cast<std::size_t>(purpose)]; }

std::string Trial::name() const { return fmt::format("{}-{}-rate{}-seed{}-steps{}", name_of(purpose), arm, rate, seed, steps); }

bool Trial::same_training(const Trial& other) const {
  return arm == other.arm && purpose == other.purpose && seed == other.seed && steps == other.steps && rate == other.rate;
}

std::vector<std::string> settings_of(const Trial& trial) {
  return {fmt::format("train.seed={}", trial.seed), fmt::format("train.steps={}", trial.steps), fmt::format("train.rate={}", trial.rate)};
}

void run_trial(const Experiment& experiment, const Arm& arm, const std::string& folder, const CommonOptions& common, Trial& trial) {
  const Recipe recipe = experiment.recipe_of(arm, settings_of(trial));
  trial.flops = expected_flops(recipe);
  trial.tokens = trial.steps * sequences_of_step(recipe.train) * recipe.space.model().context;
  const ThreadPool pool(threads_of(common));
  trial.planned_bytes =
      Trainer::plan(recipe.space, recipe.train, recipe.stages, *make_backend(training_compute(recipe, common.device), pool)).total();
  train(experiment, arm, folder, common, trial);
  if (trial.purpose == TrialPurpose::probe) return;

  Run run(folder, recipe.train.ema > 0 ? "ema" : "trained");
  const auto store = run.results(ResultStore::Mode::write);
  std::vector<Subnet> subnets;
  for (const std::string& subnet : experiment.subnets) subnets.push_back(run.subnet(subnet));
  const std::vector<Subnet> first(1, subnets.front());
  const auto bits = [](const Evaluation& one) { return bits_per_byte(one.score.loss, bytes_per_token_of(one.blocks)); };
  trial.search_loss = bits(evaluate_in_run(run, first, run.report_set(Split::search), *store, common).front());
  if (trial.purpose != TrialPurpose::compare) return;
  trial.losses.clear(), trial.block_losses.clear();
  for (const Evaluation& evaluation : evaluate_in_run(run, subnets, run.report_set(Split::report), *store, common)) {
    trial.losses.push_back(bits(evaluation));
    trial.block_losses.push_back(evaluation.score.block_losses);
    for (float& nats : trial.block_losses.back()) nats = static_cast<float>(nats / bytes_per_token_of(evaluation.blocks));
  }
}

}  // namespace elastiform
