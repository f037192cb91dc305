#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace elastiform {

/// What the blocks between a subnet's first and last one process of a training batch: `count` tokens of each sequence, in their order; the
/// others pass such a block by. Evaluation never reads it: subnets are compared with all tokens.
struct KeptTokens {
  std::int64_t count = 0;  // of each sequence; 0: all
  // For every block of the supernet [B · count]: rows of the batch, ascending, and their places in their sequences.
  std::vector<std::int32_t> rows, positions;
  std::span<const std::int32_t> rows_of(int block, std::int64_t sequences) const { return part(rows, block, sequences); }
  std::span<const std::int32_t> positions_of(int block, std::int64_t sequences) const { return part(positions, block, sequences); }

 private:
  std::span<const std::int32_t> part(const std::vector<std::int32_t>& all, int block, std::int64_t sequences) const {
    const auto size = static_cast<std::size_t>(sequences * count);
    return std::span(all).subspan(static_cast<std::size_t>(block) * size, size);
  }
};

/// What a pass learns to guess: patches that its batch leaves out of every image, and how a decoder's rows come of what is made of the others.
struct MaskedPatches {
  std::int64_t count = 0;               // of every image; 0: none is left out
  std::vector<float> values;            // [B · count, values of a patch], image by image
  std::vector<std::int32_t> rows;       // [B · count]: theirs in the decoder's stream [B · tokens of an image]
  std::vector<std::int32_t> lookup;     // [B · tokens of an image]: 0 for what is left out, else 1 + the token's row in the batch
  std::vector<std::int32_t> positions;  // [B · T] of the batch's tokens in their images
};

/// Images of a batch, and how their patches become its tokens.
struct ImageInputs {
  std::vector<float> patches;            // [B · patches of an image, values of a patch], normalised; those that are not masked
  std::vector<std::int32_t> head_rows;   // class token: the rows of those [B]; mean: the image of every row [B · T]
  std::vector<std::int32_t> mixed_with;  // [B] second targets of mixed images; empty: none is mixed
  std::vector<float> mixed_share;        // [B] of the second target
  MaskedPatches masked{};
};

/// Token ids of B sequences of T tokens, row-major [B,T], and what should follow each; kIgnoredTarget (-100) is not counted. Of images
/// `inputs` are rows of the lookup that holds the class token, if there is one, and then all patches; each has one target.
struct Batch {
  std::int64_t sequences = 0;  // B
  std::int64_t tokens = 0;     // T
  std::vector<std::int32_t> inputs, targets;
  KeptTokens kept{};
  ImageInputs images{};
  std::int64_t rows() const { return sequences * tokens; }
  std::int64_t targets_count() const { return static_cast<std::int64_t>(targets.size()); }
};

/// Makes the batch one of these of its sequences, or images, alone: numbers in ascending order. Its lists keep their memory.
void keep_sequences(Batch& batch, std::span<const int> numbers);

}  // namespace elastiform
