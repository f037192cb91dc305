#pragma once

#include <string>
#include <vector>

#include "experiments/elastiform/metric.hpp"
#include "experiments/elastiform/output.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/subnet.hpp"

namespace elastiform {

/// The object that `sample`, `cost` and others print for a subnet: its text and every cost.
JsonObject cost_json(const Subnet& subnet, const Costs& costs);

/// The same as a row of a table; the header of such tables. latency: whether the costs have predicted ones.
std::vector<std::string> cost_header(const Metric& metric, bool latency);
std::vector<std::string> cost_row(const std::string& name, const Costs& costs);

}  // namespace elastiform
