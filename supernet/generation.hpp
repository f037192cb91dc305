#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "supernet/network.hpp"

namespace elastiform {

struct GenerationOptions {
  std::int64_t tokens = 200;  // to generate
  double temperature = 0;     // 0: greedy (the first of equal logits)
  int top_k = 0;              // 0: all
  double top_p = 1;
  int vocabulary = 0;  // ids below it may come, as rows of the table beyond the tokenizer's ids mean nothing; 0: all
  std::uint64_t seed = 0;
};

/// Picks the next token from logits[V] (float32): temperature, then top-k, then top-p, then one uniform number of (seed, generation, step).
std::int32_t pick_token(std::span<const float> logits, const GenerationOptions& options, std::uint64_t step);

/// Continues `prompt` with a KV cache; `each(token)` is called as they come, returning false stops. When the context is full, the last half
/// of it becomes the new prompt and the cache is filled again. An empty prompt starts from one newline byte, which is not passed to each.
void generate(Backend& backend, const Network& network, const Weights& weights, const Subnet& subnet, std::span<const std::int32_t> prompt,
              const GenerationOptions& options, const std::function<bool(std::int32_t)>& each);

}  // namespace elastiform
