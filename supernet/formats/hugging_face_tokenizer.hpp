#pragma once

#include <optional>
#include <string>

#include "supernet/search_space.hpp"

namespace elastiform::hugging_face {

/// tokenizer.json of the byte tokenizer: id = byte value, 256 ids, nothing added.
std::string byte_tokenizer();
/// tokenizer.json and tokenizer_config.json of a model in `folder`; `tokenizer` empty: of one id a byte, or none where that is not its vocabulary.
void put_tokenizer(const std::string& folder, const std::string& tokenizer, std::optional<int> end_token, const ModelConfig& model);

/// The token that ends a text: the one that is `known`, else the special token that most models call so, because tokenizer.json does not say it.
struct EndToken {
  int id = 0;
  std::string text;
};
std::optional<EndToken> end_token(const std::string& tokenizer, std::optional<int> known);
/// For programs that must have one: else an id of the embedding's `rows` that stands for nothing, of one id a byte the NUL; absent when every
/// id stands for a text.
std::optional<int> stopping_id(const std::string& tokenizer, std::optional<int> known, int rows);
/// "eos_token_id" of the folder's generation_config.json or config.json, of several the first; absent when neither says one below `rows`.
std::optional<int> end_token_of_folder(const std::string& folder, int rows);

}  // namespace elastiform::hugging_face
