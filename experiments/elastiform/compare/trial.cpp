#include "experiments/elastiform/compare/trial.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <system_error>

#include "experiments/elastiform/compare/energy_meter.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/train_plan.hpp"
#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"

extern char** environ;

namespace elastiform {
namespace {

namespace fs = std::filesystem;
constexpr std::array<std::string_view, 3> kPurposes{"probe", "tune", "compare"};

struct Ended {
  int status = -1;  // exit status; 128 + signal when it was killed
  std::int64_t peak_bytes = 0;
};

/// This program with other arguments, its output in a log. Ctrl-C reaches it too, as it is in our process group.
Ended run_self(const std::vector<std::string>& arguments, const std::string& log) {
  std::vector<char*> words;
  std::string self = "elastiform";
  words.push_back(self.data());
  std::vector<std::string> copies = arguments;
  for (std::string& word : copies) words.push_back(word.data());
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions{};
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t process = 0;
  const int error = ::posix_spawn(&process, "/proc/self/exe", &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::system_error(error, std::generic_category(), "a process that trains");
  int status = 0;
  rusage used{};
  while (::wait4(process, &status, 0, &used) < 0)
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "a process that trains");
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), std::int64_t{used.ru_maxrss} * 1024};
}

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

void train(const Experiment& experiment, const Arm& arm, const std::string& folder, const CommonOptions& common, Trial& trial) {
  std::vector<std::string> arguments = {"train"};
  const RunPaths paths{folder};
  std::error_code error;
  if (fs::exists(paths.supernet(), error)) {
    arguments.insert(arguments.end(), {"--resume", folder});
  } else {
    fs::remove_all(folder);  // killed before its first checkpoint
    arguments.insert(arguments.end(), {experiment.recipe_path(arm), "--run", folder});
    for (const std::string& one : experiment.settings_of(arm, settings_of(trial))) arguments.insert(arguments.end(), {"--set", one});
  }
  arguments.insert(arguments.end(), {"--threads", std::to_string(threads_of(common)), "--device", std::string(name_of(common.device))});
  EnergyMeter meter(common.device);
  const std::string log = folder + ".log";
  const Ended ended = run_self(arguments, log);
  if (ended.status == kInterruptedStatus || interrupted()) throw Interrupted();
  if (ended.status != 0)
    throw std::runtime_error(fmt::format("arm {}, seed {}: the training ended with status {}: {} ({})", trial.arm, trial.seed, ended.status,
                                         last_line(log), log));
  trial.joules = meter.joules();
  trial.peak_bytes = ended.peak_bytes;
  trial.seconds = seconds_trained(paths);
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

  Run run(folder);
  const auto store = run.results(ResultStore::Mode::write);
  std::vector<Subnet> subnets;
  for (const std::string& subnet : experiment.subnets) subnets.push_back(run.subnet(subnet));
  const std::vector<Subnet> first(1, subnets.front());
  trial.search_loss = bits_per_byte(evaluate_in_run(run, first, run.report_set(Split::search), *store, common).front().score.loss);
  if (trial.purpose != TrialPurpose::compare) return;
  trial.losses.clear(), trial.block_losses.clear();
  for (const Evaluation& evaluation : evaluate_in_run(run, subnets, run.report_set(Split::report), *store, common)) {
    trial.losses.push_back(bits_per_byte(evaluation.score.loss));
    trial.block_losses.push_back(evaluation.score.block_losses);
  }
}

}  // namespace elastiform
