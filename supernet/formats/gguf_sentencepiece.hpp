#pragma once

// For sources only: nlohmann's header costs a second of compile time.
#include <optional>
#include <string>
#include <vector>

#include "supernet/formats/gguf_file.hpp"
#include "supernet/formats/json.hpp"

/// Vocabularies of sentencepiece in a GGUF: tokenizer.ggml.model "llama". llama.cpp merges the two neighbours whose token has the best
/// score.
namespace elastiform::gguf::sentencepiece {

inline constexpr const char* kModelName = "llama";

/// Empty, or why a tokenizer.json of characters has no place in such a file.
std::string why_not(const nlohmann::json& tokenizer);

/// Empty, or in which texts llama.cpp finds other ids than a tokenizer.json that why_not() accepts.
std::string note_on(const nlohmann::json& tokenizer);

/// Whether a text begins with a space that is not its own.
bool has_prefix_space(const nlohmann::json& tokenizer);

/// The score of every id below `rows`: what is merged first has the best. Of a tokenizer.json that why_not() accepts.
std::vector<float> scores_of(const nlohmann::json& tokenizer, int rows);

/// llama_token_type of a token of the vocabulary that is not added.
std::int32_t type_of(const std::string& token);

/// A file's vocabulary as a tokenizer.json.
std::string tokenizer_of(const Reader& file);

}  // namespace elastiform::gguf::sentencepiece
