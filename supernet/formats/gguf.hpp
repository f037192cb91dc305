#pragma once

#include <optional>
#include <string>

#include "supernet/formats/format.hpp"
#include "supernet/formats/gguf_file.hpp"

namespace elastiform::gguf {

/// Files for llama.cpp under its architecture `deci`, the one whose blocks may differ in heads, KV groups and FFN width while the arithmetic
/// is Llama's. Matrices are kept as `element`, gains and biases as float32.
std::string why_not_deci(const ModelConfig& model, const Subnet& subnet, Element element);
std::string why_not_block(const ModelConfig& model, int embed, int index, const BlockGenes& genes, Element element);
void write_deci(const DenseModel& model, const ModelCard& card, const std::string& path, Element element);
/// Empty, or why a tokenizer.json has no place in such a file (gguf_vocabulary.hpp).
std::string why_not_tokenizer(const std::string& tokenizer, int rows, std::optional<int> end_token);
/// Empty, or in which texts llama.cpp finds other ids than a tokenizer.json that has one.
std::string note_on_tokenizer(const std::string& tokenizer);
/// Reads what write_deci wrote, and files of the architectures `deci` and `llama` made elsewhere, of any element type that Reader knows, for at
/// most `context` tokens. In a `deci` an FFN that adds nothing is none: llama.cpp needs one in every block with attention.
DenseModel read(const std::string& path, std::optional<int> context = std::nullopt);
bool is_gguf(const std::string& path);  // by its first bytes

/// Width of the FFN of zeros that stands for none: the narrowest that its element type can hold.
int idle_width(Element element);

}  // namespace elastiform::gguf
