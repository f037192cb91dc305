#pragma once

#include "supernet/weights.hpp"

namespace elastiform {

/// The space of the networks that a tuning begins with.
SearchSpace without_tuning(const SearchSpace& space);

/// The space of the networks that are used of trained ones: without the tuning where its method merges, and without a patch decoder.
SearchSpace merged_space(const SearchSpace& space);

/// Weights of merged_space() that compute the same: effective weights in the place of the model's own, by the CPU backend in float32, on
/// the host. A slice of them is what merging the slice gives, bit for bit. rank: of Tuning::ranks; 0: the largest.
Weights merged(const Weights& tuned, int rank = 0);

/// Copies every tensor of `from` to the one of the same name: weights that a tuning begins with. `to` may be in a device's memory.
void copy_by_name(Weights& to, const Weights& from);

}  // namespace elastiform
