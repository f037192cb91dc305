#pragma once

#include <optional>
#include <string>

#include "supernet/search_space.hpp"

namespace elastiform::hugging_face {

/// tokenizer.json of the byte tokenizer: id = byte value, 256 ids, nothing added.
std::string byte_tokenizer();
/// tokenizer.json and tokenizer_config.json of a model in `folder`; `tokenizer` empty: of one id a byte, or none where that is not its vocabulary.
void put_tokenizer(const std::string& folder, const std::string& tokenizer, const ModelConfig& model);
/// The special token that ends a text: tokenizer.json does not say which, but models call it by few names.
struct EndToken {
  int id = 0;
  std::string text;
};
std::optional<EndToken> end_token(const std::string& tokenizer);

}  // namespace elastiform::hugging_face
