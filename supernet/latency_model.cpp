#include "supernet/latency_model.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace elastiform {
namespace {

// Sums of a space and their bounds are below it (latency_lines); what a limit may say is not.
constexpr std::int64_t kMostSum = std::int64_t{1} << 62;

std::int64_t saturated(double picoseconds) { return static_cast<std::int64_t>(std::min(picoseconds, static_cast<double>(kMostSum))); }

}  // namespace

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

std::int64_t LatencyModel::whole_of(std::int64_t sum) const { return saturated(std::round(whole_at(knots, static_cast<double>(sum)))); }

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
