#include <fmt/format.h>

#include <cmath>
#include <filesystem>

#include "experiments/elastiform/compare/comparison.hpp"
#include "experiments/elastiform/output.hpp"
#include "version.hpp"

namespace elastiform {
namespace {

constexpr double kMega = 1e6;

std::string interval(const PairedDifference& difference) { return fmt::format("{:+.4f} to {:+.4f}", difference.low, difference.high); }

Table quality_table(const std::vector<ComparedArm>& arms) {
  Table table({"arm", "subnet", "bits/byte", "difference", "95 % over seeds", "95 % over data", "could show", "verdict"});
  for (const ComparedArm& arm : arms)
    for (const ComparedSubnet& subnet : arm.subnets) {
      std::vector<std::string> cells{arm.name, subnet.subnet, fmt::format("{:.4f}", subnet.loss)};
      if (subnet.diverged > 0) {
        cells.insert(cells.end(), {"", "", "", "", fmt::format("diverged with {} seeds", subnet.diverged)});
      } else if (subnet.verdict.empty()) {
        cells.insert(cells.end(), {"", "", "", "", "baseline"});
      } else {
        cells.push_back(fmt::format("{:+.4f}", subnet.seeds.mean));
        cells.insert(cells.end(), {interval(subnet.seeds), interval(subnet.data), fmt::format("{:.4f}", subnet.smallest_effect)});
        cells.push_back(subnet.verdict);
      }
      table.row(std::move(cells));
    }
  return table;
}

bool tells_energy(const std::vector<ComparedArm>& arms) { return std::isfinite(arms.front().joules); }

Table cost_table(const std::vector<ComparedArm>& arms) {
  std::vector<std::string> header{"arm", "rate", "steps", "M tokens", "TFLOP", "seconds", "time ratio", "planned", "process peak"};
  if (tells_energy(arms)) header.emplace_back("joules");
  Table table(header);
  for (const ComparedArm& arm : arms) {
    std::vector<std::string> cells{
        arm.name,
        fmt::format("{:g}", arm.rate),
        grouped(arm.steps),
        fmt::format("{:.2f}", static_cast<double>(arm.tokens) / kMega),
        fmt::format("{:.2f}", arm.flops * 1e-12),
        fmt::format("{:.1f}", arm.seconds.median),
        fmt::format("{:.2f} ({:.2f} to {:.2f})", arm.time_ratio.median, arm.time_ratio.least, arm.time_ratio.most),
        bytes_text(static_cast<double>(arm.planned_bytes)),
        bytes_text(static_cast<double>(arm.peak_bytes))};
    if (tells_energy(arms)) cells.push_back(fmt::format("{:.0f}", arm.joules));
    table.row(std::move(cells));
  }
  return table;
}

std::string protocol_text(const Experiment& experiment, const std::vector<ComparedArm>& arms) {
  const std::size_t rates = experiment.arms.front().rates.size();
  std::string chosen = "Rates are the recipes', not tuned.";
  if (rates == 1) chosen = "Each arm has one rate, which the experiment gives: not tuned.";
  if (rates > 1)
    chosen = fmt::format("Rates: the best of {} by the {} subnet's loss on the search split, with a seed of its own.", rates,
                         experiment.subnets.front());
  return fmt::format(
      "{} seeds: a seed fixes first weights, data and subnets of every arm. Equal {}. {} "
      "Losses on the whole report split; a difference is arm - {}, paired by seed (Student's t) and by block of data (bootstrap). "
      "Better or worse: not 0 at 5 %, Holm-corrected over the table; equivalent: 90 % interval over seeds inside ±{} bits/byte. "
      "Could show: half of the interval over seeds.{}",
      experiment.seeds, name_of(experiment.equal), chosen, arms.front().name, experiment.margin,
      tells_energy(arms) ? "" : " This machine does not tell its energy.");
}

std::string arms_text(const Experiment& experiment) {
  std::string text;
  for (const Arm& arm : experiment.arms)
    text += fmt::format("- {}: {}{}\n", arm.name,
                        arm.recipe.empty() ? "the recipe" : "`" + std::filesystem::path(arm.recipe).filename().string() + "`",
                        arm.set.empty() ? "" : fmt::format(" with `{}`", fmt::join(arm.set, "`, `")));
  return text;
}

JsonObject json_of(const PairedDifference& difference) {
  JsonObject object;
  object.add("mean", difference.mean).add("low", difference.low).add("high", difference.high);
  object.add("low90", difference.low90).add("high90", difference.high90).add("p", difference.p);
  return object;
}

std::string json_of(const ComparedArm& arm) {
  std::vector<std::string> subnets;
  for (const ComparedSubnet& one : arm.subnets) {
    JsonObject object;
    object.add("subnet", one.subnet).add("bits_per_byte", one.loss).add("diverged", one.diverged);
    if (!one.verdict.empty()) {
      object.add_json("over_seeds", json_of(one.seeds).text()).add_json("over_data", json_of(one.data).text());
      object.add("smallest_effect", one.smallest_effect).add("verdict", one.verdict);
    }
    subnets.push_back(object.text());
  }
  JsonObject object;
  object.add("arm", arm.name).add("rate", arm.rate).add("steps", arm.steps).add("tokens", arm.tokens).add("flops", arm.flops);
  object.add("seconds", arm.seconds.median).add("time_ratio", arm.time_ratio.median);
  object.add("planned_bytes", arm.planned_bytes).add("peak_bytes", arm.peak_bytes).add("joules", arm.joules);
  object.add_json("subnets", json_list(subnets));
  return object.text();
}

}  // namespace

std::string comparison_text(const Experiment& experiment, const std::vector<ComparedArm>& arms) {
  return quality_table(arms).text() + "\n" + cost_table(arms).text() + "\n" + protocol_text(experiment, arms) + "\n";
}

std::string comparison_page(const Experiment& experiment, const std::vector<ComparedArm>& arms, const TrialPlace& place) {
  const std::string for_all = experiment.set.empty() ? "" : fmt::format(" with `{}` for all arms", fmt::join(experiment.set, "`, `"));
  return fmt::format("# {}\n\nMade by `elastiform compare {}`{}, {}, {} threads, device {}, commit {}.\n\n{}\n{}\n\n{}\n{}",
                     std::filesystem::path(experiment.path).stem().string(), experiment.path, for_all, place.processor, place.threads,
                     place.device, ELASTIFORM_COMMIT, arms_text(experiment), protocol_text(experiment, arms),
                     quality_table(arms).markdown(), cost_table(arms).markdown());
}

std::string comparison_json(const Experiment& experiment, const std::vector<ComparedArm>& arms) {
  std::vector<std::string> each;
  for (const ComparedArm& arm : arms) each.push_back(json_of(arm));
  JsonObject object;
  object.add("experiment", experiment.path).add("equal", name_of(experiment.equal)).add("seeds", experiment.seeds);
  object.add("margin", experiment.margin).add_json("arms", json_list(each));
  return object.text();
}

}  // namespace elastiform
