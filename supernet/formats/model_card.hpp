#pragma once

#include <cstdint>
#include <string>

#include "supernet/formats/format.hpp"

namespace elastiform {

/// What loads it: transformers with its own classes, or with Python files of the folder; onnxruntime; llama.cpp.
enum class Loader : std::uint8_t { transformers, transformers_with_code, onnxruntime, llama_cpp };

/// README.md of an exported folder, and a text among the metadata of a GGUF: what the model is, what it costs, how good it is and how to load it.
std::string model_card_text(const DenseModel& model, const ModelCard& card, Loader loader);

}  // namespace elastiform
