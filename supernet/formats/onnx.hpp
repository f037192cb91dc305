#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "supernet/formats/format.hpp"

namespace elastiform::onnx_folder {

/// A folder with model.onnx (opset 17, plain operators). Of a language model keys and values are inputs and outputs, and genai_config.json for
/// onnxruntime-genai and the tokenizer's files stand beside it; of a classifier preprocessor_config.json, and labels.txt where classes have names.
/// All styles, any blocks. Needs ONNX's protobuf classes; without them, why_not says how to get them.
std::string why_not(const ModelConfig& model, const Subnet& subnet);
std::string why_not_block(const ModelConfig& model, int embed, int index, const BlockGenes& genes);

/// protobuf messages end at 2 GiB: above so many bytes of weights they stand in model.onnx.data, at offsets that can be mapped.
constexpr std::int64_t kInlineBytes = std::int64_t{1500} << 20;
void write(const DenseModel& model, const ModelCard& card, const std::string& path);
void write(const DenseModel& model, const ModelCard& card, const std::string& path, std::int64_t inline_bytes);

/// Logits [rows of the sample, V], by a small interpreter of the operators that knows nothing of networks: of a text all but the last tokens at
/// once, those one by one through the cache. With `written`: std::runtime_error unless the file's constants are its weights and the cosines and
/// sines of its positions, bit for bit.
std::vector<float> run(const std::string& path, const Sample& sample, const DenseModel* written = nullptr);

}  // namespace elastiform::onnx_folder
