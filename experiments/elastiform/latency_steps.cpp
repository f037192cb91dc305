#include "experiments/elastiform/latency_steps.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "kernels/errors.hpp"
#include "search/latency_file.hpp"
#include "search/machine_clock.hpp"

namespace elastiform {

std::string why_unusable(const LatencyTable& table, const SearchSpace& space, const Deploy& deploy, const std::string& file,
                         const std::string& run) {
  const std::string again = fmt::format("elastiform profile {} measures one", run);
  Machine here = this_machine();
  here.accelerator = table.machine.accelerator;  // check_device() asks the device itself; who only predicts needs none
  if (!table.imported && table.machine.hash() != here.hash())
    return fmt::format("{} of another machine ({}, {}; this is {}, {}): {}, profile --import {} takes it as it is and labels it", file,
                       table.machine.processor, table.machine.hash(), here.processor, here.hash(), again, file);
  if (deploy_text(table.deploy) != deploy_text(deploy))
    return fmt::format("{} under [deploy] {}, not {}: {}", file, deploy_text(table.deploy), deploy_text(deploy), again);
  if (const std::string missing = table.missing(space); !missing.empty()) return fmt::format("{} with {}: {}", file, missing, again);
  for (const auto* networks : {&table.calibration, &table.networks})
    for (const LatencyTable::Network& network : *networks)
      if (!space.contains(network.subnet))
        return fmt::format("{} with the network {}, which is none of {}: {}", file, format(network.subnet), run, again);
  try {
    latency_lines(table, space);
  } catch (const InputError& error) {
    return fmt::format("{}, which cannot be used: {}", file, error.what());
  }
  return "";
}

RunClock::RunClock(const Run& run, const Deploy& deploy, Device device)
    : pool_(deploy.threads), backend_(make_backend(Compute(device, Precision::f32), pool_)),
      clock_(std::make_unique<MachineClock>(*backend_, run.weights(), deploy)) {}
RunClock::~RunClock() = default;
std::vector<PassTimes> RunClock::time(const Subnet& subnet, int passes, Timed timed) { return clock_->time(subnet, passes, timed); }

Machine RunClock::machine() const {
  Machine machine = this_machine();
  if (backend_->name() != "cpu") machine.accelerator = backend_->arithmetic();
  return machine;
}

void check_device(const Run& run) {
  const LatencyModel& model = *run.costs().latency();
  const Device device = parse_device(model.device, run.paths().latency());
  if (model.imported || device == Device::cpu) return;
  const LatencyTable table = load_latency(run.paths().latency());
  const Machine here = RunClock(run, run.costs().deploy(), device).machine();
  if (table.machine != here)
    throw InputError({run.paths().latency(), "a table of " + here.accelerator,
                      table.machine.accelerator.empty() ? "one that names no device" : table.machine.accelerator,
                      fmt::format("elastiform profile {} --device {} measures one", run.name(), model.device)});
}

TableErrors errors_of(const LatencyTable& table, const SearchSpace& space) {
  const LatencyModel model = latency_lines(table, space);
  std::vector<Subnet> subnets;
  std::vector<double> sums, lines, medians, lows;
  for (const LatencyTable::Network& network : table.networks) {
    subnets.push_back(network.subnet);
    sums.push_back(table.sum_of(network.subnet));
    lines.push_back(line_of(model, network.subnet));
    medians.push_back(network.time.median);
    lows.push_back(network.time.low);
  }
  return {.sums = error_of(sums, medians),
          .table = error_of(table.predictions(subnets), medians),
          .low = error_of(table.predictions(subnets, &Milliseconds::low), lows),
          .lines = error_of(lines, medians),
          .guard = model.guard};
}

std::string time_text(const Milliseconds& time) {
  return fmt::format("{} (10-90 %: {} to {})", time_text(time.median), time_text(time.low), time_text(time.high));
}

namespace {

std::string error_text(const PredictionError& error) {
  return fmt::format("mean error {:.1f} %, worst {:.1f} %", 100 * error.mean, 100 * error.worst);
}

// docs/latency.md; above them the machine was busy, or its parts are not additive.
constexpr double kMeanAim = 0.05, kWorstAim = 0.12;

}  // namespace

std::string table_text(const LatencyTable& table, const SearchSpace& space) {
  std::string text = fmt::format("{}, [deploy] {}\n\n", table.label(), deploy_text(table.deploy));
  Table rows({"part", "median", "10 %", "90 %"});
  const auto row = [&](const std::string& name, const Milliseconds& time) {
    rows.row({name, time_text(time.median), time_text(time.low), time_text(time.high)});
  };
  for (const auto& frame : table.frames) {
    row(fmt::format("e{} embedding", frame.embed), frame.embedding);
    row(fmt::format("e{} head", frame.embed), frame.head);
    for (const auto& of : table.attentions)
      if (of.embed == frame.embed)
        row(of.heads == of.groups ? fmt::format("e{} attention h{}", of.embed, of.heads)
                                  : fmt::format("e{} attention h{}k{}", of.embed, of.heads, of.groups),
            of.time);
    for (const auto& of : table.feed_forwards)
      if (of.embed == frame.embed) row(fmt::format("e{} ffn f{}", of.embed, of.ffn), of.time);
  }
  text += rows.text() + "\n";
  const TableErrors errors = errors_of(table, space);
  if (table.networks.empty()) {
    text += fmt::format(
        "no measured networks but those that its predictions are made of: what these miss of others is not known\n"
        "guard band of latency budgets: {:.1f} %\n",
        100 * errors.guard);
    return text;
  }
  text += fmt::format("predictions against {} random networks, measured whole: {}\n", table.networks.size(), error_text(errors.table));
  text += fmt::format("    of their 10 % quantiles: {}\n", error_text(errors.low));
  if (!table.calibration.empty())
    text += fmt::format("    sums of rows alone, before {} other networks calibrate them: {}\n", table.calibration.size(),
                        error_text(errors.sums));
  if (table.noise_worst > 0)
    text += fmt::format("    noise floor, predictions of two half measurements: {}\n",
                        error_text({.mean = table.noise_mean, .worst = table.noise_worst}));
  text += fmt::format("straight lines, which searches limit with: {}\n", error_text(errors.lines));
  text += fmt::format("guard band of latency budgets: {:.1f} %\n", 100 * errors.guard);
  if (table.calibration.empty() && !table.imported)
    text += "note: of a version before whole networks calibrated sums; profile measures a table that may be more exact\n";
  if (errors.table.mean > kMeanAim || errors.table.worst > kWorstAim)
    text += "note: above the 5 % (mean) and 12 % (worst) that are aimed at; a machine that is otherwise idle, or more --rounds, may help\n";
  return text;
}

std::string table_json(const LatencyTable& table, const SearchSpace& space, const std::string& path) {
  const auto error = [](const PredictionError& of) { return JsonObject().add("mean", of.mean).add("worst", of.worst).text(); };
  const TableErrors errors = errors_of(table, space);
  JsonObject object;
  object.add("table", path).add("source", table.source).add("imported", table.imported).add("machine", table.machine.hash());
  object.add("deploy", deploy_text(table.deploy)).add("device", table.device);
  object.add("rows", static_cast<std::int64_t>(table.frames.size() + table.attentions.size() + table.feed_forwards.size()));
  object.add("samples", table.samples)
      .add("calibration", static_cast<std::int64_t>(table.calibration.size()))
      .add("networks", static_cast<std::int64_t>(table.networks.size()));
  if (!table.networks.empty()) {
    object.add_json("error", error(errors.table))
        .add_json("sum_error", error(errors.sums))
        .add_json("low_error", error(errors.low))
        .add_json("line_error", error(errors.lines));
    object.add_json("noise", error({.mean = table.noise_mean, .worst = table.noise_worst}));
  }
  return object.add("guard", errors.guard).text();
}

}  // namespace elastiform
