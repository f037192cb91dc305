#pragma once

#include <optional>
#include <string>
#include <vector>

#include "supernet/tokenizers/byte_pair_encoding.hpp"
#include "supernet/tokenizers/pre_tokenizer.hpp"
#include "supernet/tokenizers/tokenizer.hpp"

namespace elastiform {

/// What a tokenizer.json says, ready to use.
struct Tokenizer::State {
  struct Added {
    std::string text;
    std::int32_t id = 0;
  };
  std::string json, sha256;
  BytePairEncoding merges;
  std::optional<PreTokenizer> pieces;  // absent: bytes
  std::vector<Added> first, second;    // found in the text in two passes: as written, then those that a normalizer would touch
  std::vector<std::string> texts;      // by id
  std::vector<std::int32_t> prefix;
};

}  // namespace elastiform
