#pragma once

#include <optional>
#include <string>

#include "supernet/formats/format.hpp"

namespace elastiform::hugging_face {

/// Folders that `transformers` loads: config.json, generation_config.json, model.safetensors, tokenizer.json,
/// tokenizer_config.json and a model card. docs/exports.md lists what each architecture can express.
std::string why_not_llama(const ModelConfig& model, const Subnet& subnet);
std::string why_not_gpt2(const ModelConfig& model, const Subnet& subnet);
std::string why_not_vit(const ModelConfig& model, const Subnet& subnet);
std::string why_not_auto(const ModelConfig& model, const Subnet& subnet);
std::string why_not_auto_block(const ModelConfig& model, int embed, int index, const BlockGenes& genes);

/// `llama`, or `mistral` without a sliding window where heads do not divide the embed width: the same arithmetic, but transformers 5
/// refuses such a `llama`.
void write_llama(const DenseModel& model, const ModelCard& card, const std::string& path);
void write_gpt2(const DenseModel& model, const ModelCard& card, const std::string& path);
/// `ViTForImageClassification`, or `deit` where the network has a distillation token; with preprocessor_config.json.
void write_vit(const DenseModel& model, const ModelCard& card, const std::string& path);
/// Any blocks of either style: with Python files of our own beside the weights (hugging_face_modules.hpp).
void write_auto(const DenseModel& model, const ModelCard& card, const std::string& path);

/// Whether `path` is a folder whose config.json names one of the architectures of write_llama (and Qwen2), of write_gpt2, or of write_auto.
bool is_llama(const std::string& path);
bool is_gpt2(const std::string& path);
bool is_auto(const std::string& path);
bool is_vit(const std::string& path);  // or DeiT, or DINOv2

/// Reads a folder that write_* made, or one of the same architecture that transformers saved: F32, F16 or BF16, in one file or in shards, for at
/// most `context` tokens (the model's own by default). Everything is checked against config.json before weights are allocated.
DenseModel read_llama(const std::string& path, std::optional<int> context = std::nullopt);
DenseModel read_gpt2(const std::string& path, std::optional<int> context = std::nullopt);
DenseModel read_auto(const std::string& path, std::optional<int> context = std::nullopt);
DenseModel read_vit(const std::string& path, std::optional<int> context = std::nullopt);  // InputError with a context

/// Throws the InputError that says what of a folder with a config.json of another architecture has no place here, tensor by tensor.
[[noreturn]] void refuse_folder(const std::string& path);

}  // namespace elastiform::hugging_face
