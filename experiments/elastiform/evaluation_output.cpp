#include "experiments/elastiform/evaluation_output.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "experiments/elastiform/run_folder.hpp"
#include "search/statistics.hpp"

namespace elastiform {
namespace {

bool is_homogeneous(const Subnet& subnet) {
  return std::ranges::all_of(subnet.blocks, [&](const BlockGenes& genes) { return genes == subnet.blocks.front(); });
}

}  // namespace

JsonObject evaluation_json(const Evaluation& evaluation, const Metric& metric) {
  JsonObject object;
  object.add("id", evaluation.id).add("subnet", format(evaluation.subnet)).add("split", evaluation.split).add("blocks", evaluation.blocks);
  object.add("loss", evaluation.score.loss).add("loss_se", evaluation.score.loss_se);
  if (!metric.classifies) object.add("bits_per_byte", bits_per_nat(evaluation) * evaluation.score.loss);
  object.add("accuracy", evaluation.score.accuracy);
  object.add("parameters", evaluation.costs.parameters).add("block_parameters", evaluation.costs.block_parameters);
  object.add("macs", evaluation.costs.macs).add("inference_bytes", evaluation.costs.inference_bytes);
  object.add("training_bytes", evaluation.costs.training_bytes).add("latency_ms", evaluation.latency_ms);
  if (evaluation.costs.latency > 0) object.add("predicted_latency_ms", static_cast<double>(evaluation.costs.latency) / 1e9);
  object.add("precision", evaluation.precision).add("weights_hash", evaluation.weights_hash);
  object.add("search", evaluation.search).add("round", evaluation.round).add("seconds", evaluation.score.seconds);
  return object;
}

namespace {

/// Of a share of n things (Wilson 1927): the text's end stays inside 0 to 1 where all were hits.
std::pair<double, double> wilson_interval(double share, double n) {
  const double z2 = kNormal95 * kNormal95, middle = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double reach = kNormal95 * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n);
  return {middle - reach, middle + reach};
}

}  // namespace

std::string quality_text(const Evaluation& evaluation, const Metric& metric) {
  const Score& score = evaluation.score;
  const double units = units_per_nat(evaluation, metric), loss = units * score.loss, reach = kNormal95 * units * score.loss_se;
  if (!metric.classifies)
    return fmt::format("{:.4f} {} (95 % interval {:.4f} to {:.4f} over {} {})", loss, metric.loss, loss - reach, loss + reach,
                       score.block_losses.size(), metric.blocks);
  const auto [low, high] = wilson_interval(score.accuracy, static_cast<double>(score.block_losses.size()));
  return fmt::format("accuracy {:.2f} % (95 % interval {:.2f} to {:.2f} over {} {}), loss {:.4f} ± {:.4f} {}", 100 * score.accuracy,
                     100 * low, 100 * high, score.block_losses.size(), metric.blocks, loss, reach, metric.loss);
}

std::string chance_warning(std::string_view subnet, double loss, const ModelConfig& model, double bytes_per_token) {
  const double chance = std::log(model.vocabulary);
  if (loss <= chance) return "";
  const Metric& metric = metric_of(model);
  return fmt::format(
      "warning: {} has {:.4g} {}, worse than guessing ({:.4g}): the training diverged; a lower train.rate or a train.clip may "
      "help\n",
      subnet, metric.shown(loss, bytes_per_token), metric.loss, metric.shown(chance, bytes_per_token));
}

std::string front_table(const ParetoFront& front, const Metric& metric) {
  std::vector<std::string> header{
      "subnet", "id", std::string(metric.loss), "+- 95 %", "accuracy", "parameters", fmt::format("macs/{}", metric.input)};
  const auto any = [&](const auto& test) { return std::ranges::any_of(front.members(), test); };
  const bool predicted = any([](const Evaluation& member) { return member.costs.latency > 0; });
  const bool measured = any([](const Evaluation& member) { return std::isfinite(member.latency_ms); });
  if (predicted) header.emplace_back("predicted");
  if (measured) header.emplace_back("measured");
  Table table(std::move(header));
  for (const Evaluation& member : front.members()) {
    std::vector<std::string> row{format(member.subnet),
                                 std::to_string(member.id),
                                 fmt::format("{:.4f}", units_per_nat(member, metric) * member.score.loss),
                                 fmt::format("{:.4f}", kNormal95 * units_per_nat(member, metric) * member.score.loss_se),
                                 fmt::format("{:.1f} %", 100 * member.score.accuracy),
                                 grouped(member.costs.parameters),
                                 grouped(member.costs.macs)};
    if (predicted) row.push_back(time_text(static_cast<double>(member.costs.latency) / 1e9));
    if (measured) row.push_back(std::isfinite(member.latency_ms) ? time_text(member.latency_ms) : "-");
    table.row(std::move(row));
  }
  return table.text();
}

std::string front_plot(const std::vector<Evaluation>& all, const ParetoFront& front, const Metric& metric) {
  PlotSeries evaluated{.mark = '.', .label = "evaluated", .points = {}}, equal{.mark = 'h', .label = "all blocks equal", .points = {}};
  PlotSeries best{.mark = 'O', .label = "front", .points = {}};
  const auto point = [&](const Evaluation& evaluation) {
    const auto cost = static_cast<double>(cost_of(evaluation, front.cost()));
    return std::pair{front.cost() == Cost::latency ? cost / 1e6 : cost,  // microseconds
                     units_per_nat(evaluation, metric) * evaluation.score.loss};
  };
  for (const Evaluation& evaluation : all) (is_homogeneous(evaluation.subnet) ? equal : evaluated).points.push_back(point(evaluation));
  for (const Evaluation& evaluation : front.members()) best.points.push_back(point(evaluation));
  return scatter_plot(
      {evaluated, equal, best},
      std::string(name_of(front.cost())) + (front.cost() == Cost::latency ? ", us, measured or predicted with the guard band" : ""),
      std::string(metric.loss));
}

}  // namespace elastiform
