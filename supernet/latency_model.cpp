#include "supernet/latency_model.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace elastiform {
namespace {

// Sums of a space and their bounds are below it (latency_lines); what a limit may say is not.
constexpr std::int64_t kMostSum = std::int64_t{1} << 62;

std::int64_t saturated(double picoseconds) { return static_cast<std::int64_t>(std::min(picoseconds, static_cast<double>(kMostSum))); }

// From so many on three networks make a knot; of fewer each is one.
constexpr std::size_t kManyNetworks = 9;

double middle_of(std::vector<double> values) {
  std::ranges::sort(values);
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

/// Of networks of about one sum: the middle of their sums, with the middle of what they take of them.
LatencyKnot knot_of(std::span<const LatencyKnot> networks) {
  std::vector<double> sums, ratios;
  for (const LatencyKnot& network : networks) sums.push_back(network.sum), ratios.push_back(network.whole / network.sum);
  const double sum = middle_of(std::move(sums));
  return {.sum = sum, .whole = sum * middle_of(std::move(ratios))};
}

}  // namespace

std::vector<LatencyKnot> knots_through(std::vector<LatencyKnot> networks) {
  std::ranges::sort(networks, {}, [](const LatencyKnot& network) { return std::pair(network.sum, network.whole); });
  const std::size_t between = networks.size() < 2 ? 0 : networks.size() - 2;
  const std::size_t groups = networks.size() < kManyNetworks ? between : between / 3;
  std::vector<LatencyKnot> all;
  if (!networks.empty()) all.push_back(networks.front());
  for (std::size_t i = 0; i < groups; ++i) {
    const std::size_t begin = 1 + i * between / groups, end = 1 + (i + 1) * between / groups;
    all.push_back(knot_of(std::span(networks).subspan(begin, end - begin)));
  }
  if (networks.size() > 1) all.push_back(networks.back());
  std::vector<LatencyKnot> knots;
  for (LatencyKnot knot : all) {
    if (!knots.empty()) knot.whole = std::max(knot.whole, knots.back().whole);
    if (knots.empty() || knot.sum > knots.back().sum) knots.push_back(knot);
    else knots.back().whole = knot.whole;
  }
  return knots;
}

double most_apart(std::span<const LatencyKnot> knots, double share) {
  // Between knots whole = a + b · sum, so d ln whole / d ln sum = b · sum / whole is monotone: greatest at one of the ends.
  double steepest = 1;
  for (std::size_t i = 1; i < knots.size(); ++i) {
    const double slope = (knots[i].whole - knots[i - 1].whole) / (knots[i].sum - knots[i - 1].sum);
    for (const LatencyKnot& end : {knots[i - 1], knots[i]}) steepest = std::max(steepest, slope * end.sum / end.whole);
  }
  return std::pow(1 + share, steepest) - 1;
}

double whole_at(std::span<const LatencyKnot> knots, double sum) {
  if (knots.empty()) return sum;
  const LatencyKnot &first = knots.front(), &last = knots.back();
  // Roundings must not make a knot's neighbour faster or slower than the knot: hence the ends' own values.
  if (sum <= first.sum) return std::min(first.whole, sum * (first.whole / first.sum));
  if (sum >= last.sum) return std::max(last.whole, sum * (last.whole / last.sum));
  const auto above = std::ranges::lower_bound(knots, sum, {}, &LatencyKnot::sum);
  const LatencyKnot &low = *(above - 1), &high = *above;
  return std::min(high.whole, low.whole + (sum - low.sum) * ((high.whole - low.whole) / (high.sum - low.sum)));
}

const LatencyLine& LatencyModel::at(int embed) const {
  for (const LatencyLine& line : lines)
    if (line.embed == embed) return line;
  throw std::logic_error("LatencyModel: no line for embed " + std::to_string(embed));
}

std::int64_t LatencyModel::sum_of(const Subnet& subnet) const {
  const LatencyLine& line = at(subnet.embed);
  std::int64_t sum = line.frame;
  for (const BlockGenes& genes : subnet.blocks) sum += line.of(genes);
  return sum;
}

std::int64_t LatencyModel::whole_of(std::int64_t sum) const {
  const std::int64_t whole = saturated(std::round(whole_at(knots, static_cast<double>(sum))));
  return sum > 0 ? std::max<std::int64_t>(1, whole) : whole;
}

// Rounded up: no network is inside a limit that its prediction with the band exceeds.
std::int64_t LatencyModel::bound_of(std::int64_t sum) const {
  return saturated(std::ceil(whole_at(knots, static_cast<double>(sum)) * (1 + guard)));
}

LatencyModel::Sums LatencyModel::sums_within(std::int64_t low, std::int64_t high) const {
  /// The least sum whose bound is at least so much; kMostSum + 1 where none is.
  const auto least = [&](std::int64_t bound) {
    std::int64_t begin = 0, end = kMostSum + 1;
    while (begin < end) {
      const std::int64_t middle = begin + (end - begin) / 2;
      if (bound_of(middle) >= bound) end = middle;
      else begin = middle + 1;
    }
    return begin;
  };
  const bool open = high >= kMostSum;
  return {.least = least(low), .greatest = open ? INT64_MAX : least(high + 1) - 1};
}

}  // namespace elastiform
