#pragma once

#include <string>

namespace elastiform::hugging_face {

/// tokenizer.json of the byte tokenizer: id = byte value, 256 ids, nothing added.
std::string byte_tokenizer();
/// tokenizer_config.json beside any tokenizer.json.
std::string tokenizer_config(int context);

constexpr int kByteVocabulary = 256;

}  // namespace elastiform::hugging_face
