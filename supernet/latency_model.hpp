#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "supernet/subnet.hpp"

namespace elastiform {

/// Predicted time of an inference's parts at one embed width, in picoseconds, so that a column of an FFN is no rounded number: frame
/// (embedding and head), and of each block attention + head · heads where it has heads, feed_forward + column · ffn where it has an FFN.
struct LatencyLine {
  int embed = 0;
  std::int64_t frame = 0, attention = 0, head = 0, feed_forward = 0, column = 0;
  std::int64_t of(const BlockGenes& genes) const {
    return (genes.heads > 0 ? attention + head * genes.heads : 0) + (genes.ffn > 0 ? feed_forward + column * genes.ffn : 0);
  }
};

/// A whole network takes `whole` where its parts add up to `sum`: the weights of a small one stay in the processor's cache from one
/// inference to the next, those of the networks whose parts were measured may not.
struct LatencyKnot {
  double sum = 0, whole = 0;
};
/// Straight between knots, proportional before the first and after the last; of no knots the sum. Never falls where sums and wholes of the
/// knots rise.
double whole_at(std::span<const LatencyKnot> knots, double sum);
/// Knots through measured networks, in any order: the one of the least and the one of the greatest sum, and between them each, or of many
/// the medians of about three neighbours, which one that something disturbed does not move. Sums strictly rise, wholes do not fall.
std::vector<LatencyKnot> knots_through(std::vector<LatencyKnot> networks);
/// The most by which wholes can differ where sums differ by a factor of 1 + share, as a share.
double most_apart(std::span<const LatencyKnot> knots, double share);

/// Of every embed width of a space; made of a measured table (search/latency_table.hpp). All times in picoseconds.
struct LatencyModel {
  std::vector<LatencyLine> lines;
  std::vector<LatencyKnot> knots;  // sums strictly rise, wholes do not fall
  double guard = 0;                // share by which limits are tightened
  std::string origin;              // what measured, for messages
  std::string hash;                // of the table: part of a search's name
  std::string device;              // whose latencies they are
  bool imported = false;           // from another machine or program

  const LatencyLine& at(int embed) const;  // std::logic_error when there is none
  std::int64_t sum_of(const Subnet& subnet) const;
  /// What a network of this sum is predicted to take (of a sum above 0 at least 1), and that raised by the guard band, which limits are
  /// compared with. Neither falls as sums rise, so a limit on a network's latency is one on its sum.
  std::int64_t whole_of(std::int64_t sum) const;
  std::int64_t bound_of(std::int64_t sum) const;
  std::int64_t of(const Subnet& subnet) const { return whole_of(sum_of(subnet)); }

  struct Sums {
    std::int64_t least = 0, greatest = INT64_MAX;  // none where least > greatest
  };
  /// The sums whose bound is from low to high.
  Sums sums_within(std::int64_t low, std::int64_t high) const;
};

}  // namespace elastiform
