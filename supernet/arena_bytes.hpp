#pragma once

#include <cstdint>

#include "kernels/backend.hpp"
#include "supernet/layer_tensors.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// generate() feeds a prompt in pieces of this many tokens, so its working memory does not grow with the context.
constexpr std::int64_t kPrefillRows = kPanelRows;

// Arena bytes of the passes of Network that are no training (activation_plan.hpp), computed from the same declarations that the layers
// allocate by. traits: Backend::traits().
/// masked: patches of every image that a pass of training leaves out.
std::int64_t embedding_arena_bytes(const ModelConfig& model, DType dtype, std::int64_t embed, std::int64_t batch, std::int64_t tokens,
                                   std::int64_t masked = 0);
/// tokens: rows of a sequence in the stream.
std::int64_t block_arena_bytes(const ModelConfig& model, const BackendTraits& traits, int embed, const BlockGenes& genes,
                               std::int64_t batch, std::int64_t tokens);
std::int64_t score_arena_bytes(const ModelConfig& model, const BackendTraits& traits, int embed, std::int64_t batch, std::int64_t tokens);
/// Of what the head multiplies, which stands elsewhere.
std::int64_t hidden_arena_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, std::int64_t batch,
                                std::int64_t tokens);
/// Of the images of a batch; logits apart.
std::int64_t classify_arena_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, std::int64_t batch);
std::int64_t decode_arena_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, std::int64_t tokens,
                                std::int64_t logit_rows);
std::int64_t cache_arena_bytes(const ModelConfig& model, DType dtype, const Subnet& subnet, std::int64_t context);
/// All that using a network takes beside its weights: of a classifier for a batch of images, logits included; of a language model for so many
/// texts that are generated side by side.
std::int64_t inference_arena_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, std::int64_t batch,
                                   std::int64_t context);
/// All that generate() allocates beside the weights: the cache, a piece of the prompt on its way through, one row of logits.
std::int64_t generation_arena_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, std::int64_t context);

}  // namespace elastiform
