#include "experiments/elastiform/train_output.hpp"

#include <fmt/core.h>

#include <fstream>

#include "experiments/elastiform/evaluation_output.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

constexpr double kWorse = 0.01;  // nats per token: less is noise of the few segments that are scored while training

/// The most that this process had in memory; 0 where the system does not say. Not getrusage: that begins with what the parent held.
std::int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;  // "VmHWM:   1234 kB"
  return 0;
}

std::string outcome_json(const TrainOutcome& outcome) {
  JsonObject object, losses;
  object.add("run", outcome.folder).add("step", outcome.steps).add("steps", outcome.total).add("skipped", outcome.skipped);
  object.add("seconds", outcome.seconds).add("interrupted", outcome.interrupted).add("peak_bytes", peak_bytes());
  if (outcome.losses) {
    losses.add("smallest", outcome.losses->smallest).add("middle", outcome.losses->middle).add("largest", outcome.losses->largest);
    object.add_json("loss", losses.text());
  }
  return object.text();
}

}  // namespace

int print_outcome(const TrainOutcome& outcome, const CommonOptions& common, std::string_view next) {
  auto* const stream = text_stream(common.json);
  if (outcome.skipped > 0)
    fmt::print(stream, "warning: {} of {} steps were skipped: loss or gradient not finite; a lower train.rate may help\n", outcome.skipped,
               outcome.steps);
  if (outcome.losses)
    fmt::print(stream, "{}", chance_warning("the largest subnet", outcome.losses->largest, outcome.model, outcome.bytes_per_token));
  // The largest contains the others: when it is worse, it was trained too rarely.
  if (outcome.losses && outcome.losses->largest > outcome.losses->middle + kWorse)
    fmt::print(stream, "warning: the largest subnet is worse than the middle one: train longer, or draw it more often (stage.largest)\n");
  if (outcome.interrupted)
    fmt::print(stream, "saved at step {}; go on with: elastiform train --resume {}\n", outcome.steps, outcome.folder);
  else
    fmt::print(stream, "{} holds {} steps, trained in {}; next: elastiform {} {}\n", outcome.folder, outcome.steps,
               duration_text(outcome.seconds), next, outcome.folder);
  if (common.json) fmt::print("{}\n", outcome_json(outcome));
  return outcome.interrupted ? kInterruptedStatus : 0;
}

std::string typed_folder(std::string path, std::string_view where) {
  path = without_slash(std::move(path));
  if (path.empty()) throw InputError({std::string(where), "a folder", "an empty name", ""});
  return path;
}

}  // namespace elastiform
