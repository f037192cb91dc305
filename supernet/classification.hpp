#pragma once

#include <vector>

#include "supernet/network.hpp"

namespace elastiform {

/// Logits [B, classes] of a batch's images, row by row, in the host's memory. The same bits for any number of threads.
std::vector<float> image_logits(Backend& backend, const Network& network, const Weights& weights, const Subnet& subnet, const Batch& batch);

}  // namespace elastiform
