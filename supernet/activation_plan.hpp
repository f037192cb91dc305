#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "supernet/layer_tensors.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// What a block keeps from its forward to its backward pass.
struct BlockPlan {
  TensorSet attention, feed_forward;  // dropped by the branches, computed again from their inputs
  bool middle = false;                // the attention branch's output is dropped too: backward runs that branch again
  bool operator==(const BlockPlan&) const = default;
};

/// What a training pass of one subnet keeps and what its backward pass computes again. Every plan gives the same bits.
struct ActivationPlan {
  std::vector<BlockPlan> blocks;
  std::int64_t arena_bytes = 0;                          // exactly what the pass takes
  std::int64_t forward_flops = 0, recomputed_flops = 0;  // of products, head included
  double recomputed_share() const;                       // of the forward pass's FLOPs
};

/// A training pass: everything that its arena depends on besides the subnet.
struct PassShape {
  std::int64_t batch = 0, tokens = 0;
  bool with_teacher = false;
  std::int64_t kept = 0;  // tokens of a sequence in blocks between the first and the last (KeptTokens::count); 0: all
  double dropout = 0;     // rate
  bool operator==(const PassShape&) const = default;
};

/// Of block i of `depth`: all tokens pass the first and the last one, whatever PassShape::kept is.
constexpr bool keeps_some_tokens(int i, int depth) { return i > 0 && i + 1 < depth; }

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

/// The fastest plan of at most `limit` arena bytes. When none fits, the one of fewest bytes: its arena_bytes exceed the limit.
/// traits: Backend::traits().
ActivationPlan plan_activations(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& pass,
                                std::int64_t limit = kNoLimit);

/// The arena bytes that a pass without a limit is given: fewer than everything kept by what costs at most kUnlimitedShare of a step to
/// compute again. For GPT-2's shape in float32 that is elementwise work, a third of the activations.
constexpr double kUnlimitedShare = 0.015;
std::int64_t unlimited_activation_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& pass);

}  // namespace elastiform
