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

JsonObject evaluation_json(const Evaluation& evaluation) {
  JsonObject object;
  object.add("id", evaluation.id).add("subnet", format(evaluation.subnet)).add("split", evaluation.split).add("blocks", evaluation.blocks);
  object.add("loss", evaluation.score.loss).add("loss_se", evaluation.score.loss_se);
  object.add("bits_per_byte", bits_per_nat(evaluation) * evaluation.score.loss).add("accuracy", evaluation.score.accuracy);
  object.add("parameters", evaluation.costs.parameters).add("block_parameters", evaluation.costs.block_parameters);
  object.add("macs", evaluation.costs.macs).add("inference_bytes", evaluation.costs.inference_bytes);
  object.add("training_bytes", evaluation.costs.training_bytes).add("latency_ms", evaluation.latency_ms);
  object.add("precision", evaluation.precision).add("weights_hash", evaluation.weights_hash);
  object.add("search", evaluation.search).add("round", evaluation.round).add("seconds", evaluation.score.seconds);
  return object;
}

std::string quality_text(const Evaluation& evaluation) {
  const Score& score = evaluation.score;
  const double bits = bits_per_nat(evaluation) * score.loss, reach = kNormal95 * bits_per_nat(evaluation) * score.loss_se;
  return fmt::format("{:.4f} bits/byte (95 % interval {:.4f} to {:.4f} over {} blocks of data)", bits, bits - reach, bits + reach,
                     score.block_losses.size());
}

std::string chance_warning(std::string_view subnet, double loss, int vocabulary, double bytes_per_token) {
  const double chance = std::log(vocabulary);
  if (loss <= chance) return "";
  return fmt::format(
      "warning: {} has {:.4g} bits/byte, worse than guessing ({:.4g}): the training diverged; a lower train.rate or a train.clip may "
      "help\n",
      subnet, bits_per_byte(loss, bytes_per_token), bits_per_byte(chance, bytes_per_token));
}

std::string front_table(const ParetoFront& front) {
  Table table({"subnet", "id", "bits/byte", "+- 95 %", "accuracy", "parameters", "macs/token"});
  for (const Evaluation& member : front.members())
    table.row({format(member.subnet), std::to_string(member.id), fmt::format("{:.4f}", bits_per_nat(member) * member.score.loss),
               fmt::format("{:.4f}", kNormal95 * bits_per_nat(member) * member.score.loss_se),
               fmt::format("{:.1f} %", 100 * member.score.accuracy), grouped(member.costs.parameters), grouped(member.costs.macs)});
  return table.text();
}

std::string front_plot(const std::vector<Evaluation>& all, const ParetoFront& front) {
  PlotSeries evaluated{.mark = '.', .label = "evaluated", .points = {}}, equal{.mark = 'h', .label = "all blocks equal", .points = {}};
  PlotSeries best{.mark = 'O', .label = "front", .points = {}};
  const auto point = [&](const Evaluation& evaluation) {
    return std::pair{static_cast<double>(value_of(evaluation.costs, front.cost())), bits_per_nat(evaluation) * evaluation.score.loss};
  };
  for (const Evaluation& evaluation : all) (is_homogeneous(evaluation.subnet) ? equal : evaluated).points.push_back(point(evaluation));
  for (const Evaluation& evaluation : front.members()) best.points.push_back(point(evaluation));
  return scatter_plot({evaluated, equal, best}, std::string(name_of(front.cost())), "bits/byte");
}

}  // namespace elastiform
