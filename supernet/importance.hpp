#pragma once

#include <cstdint>
#include <vector>

#include "supernet/weights.hpp"

namespace elastiform {

/// What a slice keeps is what stands first, so weights that were trained without slices are put in order of importance: KV groups with their
/// query heads, FFN columns, and embed channels. Importance is magnitude (arXiv 1506.02626): the sum of |w| over everything that a group, a
/// neuron or a channel touches, times the norm's gain where one stands before the matrix. Of embed channels each tensor counts by its shares,
/// or the rows of the vocabulary would outvote the rest. A whole network computes the same in any order, but for the rounding of sums.
void sort_by_importance(Weights& weights);

// What it sorts by, one number each: of embed channels, of a block's KV groups and of its FFN columns.
std::vector<double> embed_importance(const Weights& weights);
std::vector<double> group_importance(const Weights& weights, int block);
std::vector<double> ffn_importance(const Weights& weights, int block);

}  // namespace elastiform
