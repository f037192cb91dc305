#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "supernet/tokenizers/byte_pair_encoding.hpp"
#include "supernet/tokenizers/character_pieces.hpp"
#include "supernet/tokenizers/pre_tokenizer.hpp"
#include "supernet/tokenizers/sorted_texts.hpp"
#include "supernet/tokenizers/tokenizer.hpp"

namespace elastiform {

/// Tokens that are found in a text before it is cut and merged, e.g. "<|endoftext|>".
class AddedTokens {
 public:
  void add(std::string text, std::int32_t id);  // of two with one text the later counts
  void finish();                                // after the last add()
  /// Calls added(id) for the leftmost, and of those that begin at one place the longest, and part(text) for what lies between.
  void find(std::string_view text, const std::function<void(std::string_view)>& part, const std::function<void(std::int32_t)>& added) const;

 private:
  struct Token {
    std::string text;
    std::int32_t id = 0;
  };
  const Token* longest_at(std::string_view text) const;

  std::unordered_map<std::string, std::int32_t> ids_;
  std::vector<Token> tokens_;  // by text
  FirstBytes begins_{};
};

/// What becomes of the space that a text begins with.
enum class Leading { kept, one_space_less };

/// What a tokenizer.json says, ready to use.
struct Tokenizer::State {
  std::string json, sha256;
  BytePairEncoding merges;
  std::optional<PreTokenizer> pieces;         // of byte-level BPE
  std::optional<CharacterPieces> characters;  // of characters; neither: one id a byte
  AddedTokens first, second;                  // found in the text in two passes: as written, then those that a normalizer would touch
  std::vector<std::string> texts;             // by id
  std::unordered_map<std::int32_t, std::string> first_texts;  // of ids that stand for another text as the first of all
  std::set<std::int32_t> added;
  std::vector<std::int32_t> prefix;
  Leading leading = Leading::kept;

  void encode_characters(std::string_view text, std::vector<std::int32_t>& tokens) const;
};

}  // namespace elastiform
