#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/elastiform/metric.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/terminal_plot.hpp"
#include "search/evaluator.hpp"
#include "search/pareto_front.hpp"

namespace elastiform {

/// Every number of an evaluation but its block losses, which results.h5 holds.
JsonObject evaluation_json(const Evaluation& evaluation, const Metric& metric = kTextMetric);

/// "2.1234 bits/byte (95 % interval 2.1100 to 2.1368 over 220 blocks of data)"; of a classifier its accuracy, with Wilson's interval, and
/// its loss.
std::string quality_text(const Evaluation& evaluation, const Metric& metric = kTextMetric);

/// One line when a loss (nats) is above that of guessing among all tokens or classes, or no number; else "".
std::string chance_warning(std::string_view subnet, double loss, const ModelConfig& model, double bytes_per_token = 1);

/// The members of a front, one row each.
std::string front_table(const ParetoFront& front, const Metric& metric = kTextMetric);
/// Everything evaluated, the homogeneous subnets among it, and the front, cost against loss.
std::string front_plot(const std::vector<Evaluation>& all, const ParetoFront& front, const Metric& metric = kTextMetric);

}  // namespace elastiform
