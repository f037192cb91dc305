#pragma once

#include <string>

namespace elastiform::hugging_face {

/// tokenizer.json of the byte tokenizer: id = byte value, 256 ids, nothing added.
std::string byte_tokenizer();
/// tokenizer_config.json beside it.
std::string byte_tokenizer_config(int context);

}  // namespace elastiform::hugging_face
