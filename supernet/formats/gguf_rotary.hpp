#pragma once

#include <string>
#include <vector>

#include "supernet/formats/gguf_file.hpp"
#include "supernet/search_space.hpp"

namespace elastiform::gguf {

/// The tensor [head_dim / 2] in which llama.cpp has Llama 3's scaling: what rotary frequencies are divided by.
constexpr const char* kRopeDivisors = "rope_freqs.weight";

/// Linear scaling by llama.cpp's keys; Llama 3's by that tensor, and for our own import by the numbers that make it.
void add_scaling(Metadata& metadata, std::vector<Tensor>& tensors, const ModelConfig& model);

/// The rule by which a file of this architecture scales, whose head_dim and rope_theta `model` has. Linear unless it says "none". A tensor of
/// divisors must be what Llama 3's rule makes of the largest of them and, where no file of ours says otherwise, of Llama 3.1's and 3.2's numbers.
/// Throws InputError naming the key or the tensor.
RopeScaling read_scaling(const Reader& file, const std::string& architecture, const ModelConfig& model);

}  // namespace elastiform::gguf
