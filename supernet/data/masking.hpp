#pragma once

#include <cstdint>

#include "supernet/data/batch.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// Which patches a step hides.
struct Masking {
  int count = 0;            // of every image; 0: none
  bool normalized = false;  // they are guessed with mean 0 and variance 1, each by itself (arXiv 2111.06377 §4)
  bool operator==(const Masking&) const = default;
};

/// Leaves patches out of a batch of images, drawn uniformly for each: the `count` last of their numbers ordered by noise. Image i of the batch draws from
/// the stream (seed, step, first + i), so a step can be repeated. The others keep their order, behind the learned tokens.
void mask_patches(Batch& batch, const ModelConfig& model, const Masking& masking, std::uint64_t seed, std::uint64_t step,
                  std::int64_t first);

}  // namespace elastiform
