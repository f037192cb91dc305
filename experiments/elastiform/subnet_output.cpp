#include "experiments/elastiform/subnet_output.hpp"

namespace elastiform {

JsonObject cost_json(const Subnet& subnet, const Costs& costs) {
  JsonObject object;
  object.add("subnet", format(subnet)).add("parameters", costs.parameters).add("block_parameters", costs.block_parameters);
  object.add("macs", costs.macs).add("inference_bytes", costs.inference_bytes).add("training_bytes", costs.training_bytes);
  if (costs.latency > 0) object.add("predicted_latency_ms", static_cast<double>(costs.latency) / 1e9);
  return object;
}

std::vector<std::string> cost_header(const Metric& metric, bool latency) {
  std::vector<std::string> header{"subnet", "parameters", "in blocks", "MACs/" + std::string(metric.input), "inference", "training"};
  if (latency) header.emplace_back("latency");
  return header;
}

std::vector<std::string> cost_row(const std::string& name, const Costs& costs) {
  std::vector<std::string> row{name,
                               grouped(costs.parameters),
                               grouped(costs.block_parameters),
                               count_text(static_cast<double>(costs.macs)),
                               bytes_text(static_cast<double>(costs.inference_bytes)),
                               bytes_text(static_cast<double>(costs.training_bytes))};
  if (costs.latency > 0) row.push_back(time_text(static_cast<double>(costs.latency) / 1e9));
  return row;
}

}  // namespace elastiform
