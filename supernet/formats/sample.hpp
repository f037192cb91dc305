#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "supernet/data/batch.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// What an export and the subnet that it was made of are both run on: one sequence of tokens, or images. Each has a row of logits.
struct Sample {
  Sample(std::vector<std::int32_t> ids) : tokens(std::move(ids)) {}              // NOLINT(google-explicit-constructor)
  Sample(std::span<const std::int32_t> ids) : tokens(ids.begin(), ids.end()) {}  // NOLINT(google-explicit-constructor)
  Sample(Batch batch, const ImageShape& of) : images(std::move(batch)), shape(of) {}

  std::int64_t size() const { return images.sequences > 0 ? images.sequences : static_cast<std::int64_t>(tokens.size()); }
  Sample first(std::int64_t count) const;  // of size()

  std::vector<std::int32_t> tokens;
  Batch images;
  ImageShape shape;
};

/// Logits [tokens, V] of one sequence, by the code that generates: what an export is compared with. The same bits for any number of threads.
std::vector<float> sequence_logits(const Weights& weights, const Subnet& subnet, std::span<const std::int32_t> tokens, int threads = 1);
/// The same of either kind of sample, [size(), V].
std::vector<float> sample_logits(const Weights& weights, const Subnet& subnet, const Sample& sample, int threads = 1);

}  // namespace elastiform
