#pragma once

#include <string>

#include "supernet/formats/gguf_file.hpp"

namespace elastiform::gguf {

/// A tokenizer.json of byte-level BPE (empty: one id a byte) under llama.cpp's keys, for an embedding of `rows` rows; ids that stand for nothing
/// are unused. Throws InputError with what why_not_tokenizer says.
void add_vocabulary(Metadata& metadata, const std::string& tokenizer, int rows);

/// The tokenizer.json that says the same as a file's vocabulary; empty for one id a byte, and for a vocabulary of another kind, such as
/// sentencepiece's, whose ids can be taken with a tokenizer given beside it.
std::string tokenizer_of(const Reader& file);

}  // namespace elastiform::gguf
