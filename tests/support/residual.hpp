#pragma once

#include <vector>

#include "kernels/backend.hpp"
#include "supernet/data/batch.hpp"
#include "supernet/search_space.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

std::vector<ResidualRule> every_residual_rule();
/// The space with another rule and the constants that it has for this depth; untied where the rule needs it.
SearchSpace with_residual(const SearchSpace& space, ResidualRule rule);

/// gpt2's parts without biases, vocabulary 151, context 24: equal blocks of any of these depths (heads of 8 channels, 0: no attention).
SearchSpace equal_blocks_of_depths(ResidualRule rule, const std::vector<int>& depths, int embed, int heads, int ffn,
                                   FeedForwardKind kind = FeedForwardKind::gelu_tanh, bool tied = true);
inline SearchSpace equal_blocks(ResidualRule rule, int blocks, int embed, int heads, int ffn, FeedForwardKind kind, bool tied = true) {
  return equal_blocks_of_depths(rule, {blocks}, embed, heads, ffn, kind, tied);
}

/// First values with embeddings of variance 1, and branches whose outputs have variance 1 for normed inputs where attention sees one token.
Weights unit_branches(const SearchSpace& space, std::uint64_t seed);
/// Mean square of the stream after the last block.
double stream_variance(const SearchSpace& space, Backend& backend, const Weights& weights, const Subnet& subnet, const Batch& batch);

}  // namespace elastiform
