#pragma once

#include <cstdint>

#include "supernet/formats/format.hpp"

namespace elastiform {

/// The network of `to` that computes what `model` computes: heads and FFN columns are added at the end, with weights of zero, and a block that
/// lacks a branch gets one of zeros. Where `to` has one query head a KV group, keys and values are repeated for the heads that shared them.
DenseModel pad(const DenseModel& model, const Padded& to);

/// Stored scalars, and the cache of a language model: keys and values of one full context, float32.
struct NetworkSize {
  std::int64_t parameters = 0, cache_bytes = 0;
};
NetworkSize size_of(const ModelConfig& model, const Subnet& subnet);

/// The uniform networks of stock classes (Format::padded). Llama: the most heads and the widest FFN of any block; with biases, more heads where
/// only that makes them divide the embed width. GPT-2 and ViT: all the heads of the embed width, none of which share keys.
Padded padded_llama(const ModelConfig& model, const Subnet& subnet);
Padded padded_gpt2(const ModelConfig& model, const Subnet& subnet);
Padded padded_vit(const ModelConfig& model, const Subnet& subnet);

}  // namespace elastiform
