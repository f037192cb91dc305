#pragma once

#include <cstdint>
#include <string_view>

#include "supernet/search_space.hpp"

namespace elastiform {

/// Before the names of a decoder's tensors in its network's weight table.
constexpr std::string_view kDecoderPrefix = "decoder.";

/// The space of the one network that a model's decoder is (ModelConfig::decoder): a vision transformer over all tokens of an image, with FFNs
/// of four times its width and a branch scale of its own depth, whose "classes" are the values of a patch.
SearchSpace decoder_space(const ModelConfig& model);

/// The same subnets without a decoder: what is evaluated, searched, tuned and exported.
SearchSpace without_decoder(const SearchSpace& space);

/// Patches of an image that are hidden at a ratio: all but ⌊patches · (1 - ratio)⌋.
int masked_patches(const ModelConfig& model, double ratio);

/// Multiply-adds an image of a pass that hides so many patches, without the encoder's blocks: the embedding of those that it sees, and the
/// decoder. Those between activations apart.
struct MaskedMacs {
  std::int64_t all = 0, attention = 0;
};
MaskedMacs masked_macs(const ModelConfig& model, int embed, int masked);

}  // namespace elastiform
