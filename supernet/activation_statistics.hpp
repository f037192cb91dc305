#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "supernet/network.hpp"

namespace elastiform {

/// Mean squares over tokens of what the products of a network are given, channel by channel.
struct ActivationStatistics {
  struct Block {
    std::vector<double> attention_normed;     // [C]
    std::vector<double> mixed;                // [H·D]
    std::vector<double> feed_forward_normed;  // [C]
    std::vector<double> activated;            // [F]
  };
  std::vector<Block> blocks;   // of the largest subnet
  std::vector<double> hidden;  // [C], what the head multiplies
  std::int64_t tokens = 0;     // that they are over
};

/// Of the largest subnet with float32 weights on the host, over the rows of all batches, which have one shape. Sums are of one order whatever
/// the number of threads.
ActivationStatistics activation_statistics(Backend& backend, const Weights& weights, std::span<const Batch> batches);

}  // namespace elastiform
