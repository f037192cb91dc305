#pragma once

#include <cstdint>

#include "supernet/weights.hpp"

namespace elastiform {

class Backend;

/// What the model's residual rule says (supernet/residual_rules/), with the blocks of the space as N: by default matrices and embeddings
/// N(0, 0.02²), gains 1, biases and matrices of role zero 0 (weights arrive zeroed). A pure function of (seed, place of the tensor in the
/// table, row, column), so a row of a wider space begins with the same values, times the ratio of their deviations where these depend on the extents (Xavier).
/// backend: whose threads share the rows, if any.
void initialize(Weights& weights, std::uint64_t seed, Backend* backend = nullptr);

}  // namespace elastiform
