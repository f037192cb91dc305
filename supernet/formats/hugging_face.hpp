#pragma once

#include <optional>
#include <string>

#include "supernet/formats/format.hpp"

namespace elastiform::hugging_face {

/// Folders that `transformers` loads with its own classes: config.json, generation_config.json, model.safetensors, tokenizer.json,
/// tokenizer_config.json and a model card. docs/exports.md lists what each architecture can express.
std::string why_not_llama(const ModelConfig& model, const Subnet& subnet);
std::string why_not_gpt2(const ModelConfig& model, const Subnet& subnet);

/// `llama`, or `mistral` without a sliding window where heads do not divide the embed width: the same arithmetic, but transformers 5
/// refuses such a `llama`.
void write_llama(const DenseModel& model, const ModelCard& card, const std::string& path);
void write_gpt2(const DenseModel& model, const ModelCard& card, const std::string& path);

/// Reads a folder that write_* made, or one of the same architecture that transformers saved: Llama, Mistral and Qwen2, or GPT-2; F32, F16 or
/// BF16, in one file or in shards. Everything is checked against config.json before weights are allocated.
DenseModel read_llama(const std::string& path);
DenseModel read_gpt2(const std::string& path);
/// Whichever it is, for at most `context` tokens. What of another architecture has no place is named, tensor by tensor.
DenseModel read_folder(const std::string& path, std::optional<int> context = std::nullopt);

/// "model_type" of config.json.
std::string model_type(const std::string& folder);

}  // namespace elastiform::hugging_face
