#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "supernet/layer_tensors.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// What a block keeps from its forward to its backward pass.
struct BlockPlan {
  LayerPlan attention, feed_forward;
  bool middle = false;  // the attention branch's output is dropped too: backward runs that branch again
  bool operator==(const BlockPlan&) const = default;
};

/// What plans may do besides keeping and computing again.
struct ActivationChoices {
  /// Compress: bits of a compressed tensor (or its own fewest, where that is more), 0: none. Forward stays exact, gradients get noise, so the
  /// bits of a run depend on its plans: then these are made as for one worker, and the same on every number of threads.
  int bits = 0;
  bool allocates = false;        // `bits` is the fewest; what a limit leaves goes to the tensors whose noise reaches furthest
  bool offloads = false;         // tensors may wait outside the arena; changes no bit
  bool repeats_products = true;  // false: backward computes elementwise work again and no more, so that what is to be saved is compressed
  bool compresses() const { return bits > 0; }
  bool operator==(const ActivationChoices&) const = default;
};

/// What a training pass of one subnet keeps and what its backward pass computes again. Every plan that compresses nothing gives the same bits.
struct ActivationPlan {
  std::vector<BlockPlan> blocks;
  std::int64_t arena_bytes = 0;                          // exactly what the pass takes
  std::int64_t planned_bytes = 0;                        // what was held against the limit: where plans compress, what one worker takes
  std::int64_t away_bytes = 0;                           // outside of it
  std::int64_t forward_flops = 0, recomputed_flops = 0;  // of products, head included
  std::shared_ptr<const ActivationPlan> decoder;         // of the decoder's pass, inside this one: it keeps everything; null: none
  int tensors = 0, compressed = 0;                       // that backward reads of blocks, and of these what waits compressed
  double recomputed_share() const;                       // of the forward pass's FLOPs
};

/// A training pass: everything that its arena depends on besides the subnet.
struct PassShape {
  std::int64_t batch = 0, tokens = 0;
  bool with_teacher = false;
  std::int64_t kept = 0;    // tokens of a sequence in blocks between the first and the last (KeptTokens::count); 0: all
  double dropout = 0;       // rate
  std::int64_t masked = 0;  // patches of an image that `tokens` leave out and the decoder guesses; 0: the head predicts
  bool operator==(const PassShape&) const = default;
};

/// Of block i of `depth`: all tokens pass the first and the last one, whatever PassShape::kept is.
constexpr bool keeps_some_tokens(int i, int depth) { return i > 0 && i + 1 < depth; }

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

/// The fastest plan of at most `limit` planned bytes. When none fits, the one of fewest bytes: its planned_bytes exceed the limit.
/// traits: Backend::traits().
ActivationPlan plan_activations(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& pass,
                                std::int64_t limit = kNoLimit, const ActivationChoices& choices = {});

/// The arena bytes that a pass without a limit is given: fewer than everything kept by what costs at most kUnlimitedShare of a step to
/// compute again. For GPT-2's shape in float32 that is elementwise work, a third of the activations.
/// Whoever lets plans compress wants fewer bytes: then it is the fewest of plans that repeat no product, of 4 bits where bits are allocated.
constexpr double kUnlimitedShare = 0.015;
std::int64_t unlimited_activation_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& pass,
                                        const ActivationChoices& choices = {});

/// At most what a pass of `subnet`, or of one inside it, takes for further workers besides its planned_bytes.
std::int64_t further_workers_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& pass);

}  // namespace elastiform
