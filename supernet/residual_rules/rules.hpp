#pragma once

// Rows of the registry, one file each, and what several of them share.
#include <string_view>

#include "supernet/residual_rules/residual_rule.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

extern const ResidualRuleEntry kBranchScale, kBranchScaleByDepth, kLayerScale, kRezero, kSkipInit, kFixup, kTFixup, kDeepNorm, kAdmin;

/// N blocks of two branches: what sums the residual stream to variance 2 when branches have variance 1.
double branch_scale_of(int blocks);  // (2N)^-1/2
inline ResidualConstants no_constants(int) { return {}; }

/// Matrices and embeddings N(0, 0.02²) as in GPT-2, gains 1, the rest 0.
Start gpt2_start(const TensorSpec& tensor);
/// Matrices N(0, 2 / (in + out)) of the largest extents, embeddings N(0, 1 / C), gains 1, the rest 0: where no norm undoes the scale.
Start xavier_start(const TensorSpec& tensor);

/// "attention.value" of "block.3.attention.value"; the whole name outside of blocks.
std::string_view part_of(const TensorSpec& tensor);
/// The products whose result is linear in their weights' scale: value, out and all of the feed-forward network. The softmax between query
/// and key only weighs a mean.
bool carries_signal(const TensorSpec& tensor);

}  // namespace elastiform
