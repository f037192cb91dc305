#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "supernet/search_space.hpp"
#include "supernet/subnet.hpp"

namespace elastiform::hugging_face {

/// What config.json says of a network, before any tensor is seen.
struct Architecture {
  enum class Family : std::uint8_t { llama, gpt2, vit, dinov2 };  // how tensors are named and laid out; elastiform's as llama's
  std::string type;                                               // "model_type": one of kModelTypes
  Family family = Family::llama;
  ModelConfig model;
  Subnet subnet;
  int positions = 0;  // tokens that the checkpoint was made for: rows of a learned position table, of which model.context are used
  // Which linear layers the architecture gives biases. Ours has them everywhere or nowhere: the others are 0.
  bool query_key_value_biases = false, out_bias = false, ffn_biases = false;
  std::vector<std::string> class_names = {};  // of a classifier, where it names its classes
  bool headless = false;                      // the checkpoint has no head, which the reader finds
};

constexpr const char* kModelTypes = "llama, mistral, qwen2, gpt2, vit, deit, dinov2 or elastiform";

/// Reads the text of a config.json. `context`: tokens of the network, at most what the model was made for (the default). Every key that would
/// change the arithmetic into one that is not ours is an InputError that names it: other activations, partial rotary positions and scalings of them other than linear and Llama 3's,
/// sliding windows shorter than the context, quantized weights, code of its own.
Architecture parse_config(std::string_view json, const std::string& where, std::optional<int> context = std::nullopt);

/// "model_type" of the text, whatever it is.
std::string model_type_of(std::string_view json, const std::string& where);

/// Keys of an unknown architecture that say which part of its arithmetic has no place here, e.g. "num_local_experts"; empty when none does.
std::string telling_keys(std::string_view json, const std::string& where);

/// The text of FOLDER/config.json, at most 1 MiB.
std::string read_config(const std::string& folder);

}  // namespace elastiform::hugging_face
