#pragma once

#include <optional>
#include <string>

#include "kernels/errors.hpp"
#include "supernet/formats/gguf_file.hpp"

namespace elastiform::gguf {

/// A tokenizer.json (empty: one id a byte) under llama.cpp's keys, for an embedding of `rows` rows; ids that stand for nothing
/// are unused. Throws InputError with what why_not_tokenizer says.
void add_vocabulary(Metadata& metadata, const std::string& tokenizer, std::optional<int> end_token, int rows);

/// The id that ends a text, unless it is one of bytes or one that stands for nothing.
std::optional<int> end_token_of(const Reader& file);

/// The tokenizer.json that says the same as a file's vocabulary; empty for one id a byte, and for a vocabulary of another kind, whose ids
/// can be taken with a tokenizer given beside it. `refused`: why one of sentencepiece has no place here.
std::string tokenizer_of(const Reader& file, std::optional<InputError>& refused);

}  // namespace elastiform::gguf
