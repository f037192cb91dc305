#pragma once

#include <cstdint>

#include "supernet/weights.hpp"

namespace elastiform {

/// Default initialisation: matrices and embeddings N(0, 0.02), residual outputs (attention.out, ffn.down) N(0, 0.02 / sqrt(2·N_max)) … the
/// exact rule stands in the .cpp; gains 1, biases 0. A pure function of (seed, tensor, row, column): a slice of a larger space's weights
/// has the same values whatever else the space offers.
void initialize(Weights& weights, std::uint64_t seed);

}  // namespace elastiform
