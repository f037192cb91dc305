#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "supernet/data/batch.hpp"
#include "supernet/search_space.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// A small space of a preset ("llama": grouped queries, "gpt2", "vit": 12 patches and a class token), elastic in every dimension.
SearchSpace tiny_space(std::string_view preset);

/// So wide that in float32 a product costs more than to compress what it computes (embed 192), or to write it to a file (320): narrower,
/// plans do the product again.
SearchSpace wide_space(std::string_view preset, std::vector<int> embed);

/// A subnet of the space under the balanced law, by number.
Subnet random_subnet(const SearchSpace& space, std::uint64_t number);

/// Normal weights of standard deviation 0.2 (gains around 1): large enough that every path of the network matters.
Weights random_weights(const SearchSpace& space, DType dtype, std::uint64_t seed);

/// Random token ids with their successors as targets, or of a "vit" so many random images, which have tokens of their own number.
Batch random_batch(const SearchSpace& space, std::int64_t sequences, std::int64_t tokens, std::uint64_t seed);

/// Every element of `weights` outside the slices that `subnet` uses becomes `value`.
void fill_outside(Weights& weights, const Subnet& subnet, double value);

/// The same shape and the same bits inside.
bool same_bits(ConstView a, ConstView b);
/// The same tensors, by name, with the same bits.
bool same_bits(const Weights& a, const Weights& b);
/// The same tensors, by name, with equal float32 values: a zero has no sign.
bool same_values(const Weights& a, const Weights& b);

}  // namespace elastiform
