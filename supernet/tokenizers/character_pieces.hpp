#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "supernet/tokenizers/byte_pair_encoding.hpp"
#include "supernet/tokenizers/piece_memory.hpp"
#include "supernet/tokenizers/text_normalizer.hpp"
#include "supernet/tokenizers/unigram.hpp"

namespace elastiform {

/// Text to tokens whose beginnings are characters, as sentencepiece makes them: byte-pair encoding or the unigram model. What has no token
/// becomes tokens of its bytes, or the unknown token, or nothing.
class CharacterModel {
 public:
  static constexpr std::int32_t kNone = BytePairEncoding::kNone;

  void add_character(std::string_view character, std::int32_t id);  // of byte-pair encoding: a token of one character

  BytePairEncoding merges;
  std::optional<Unigram> unigram;                         // then there are no merges
  std::optional<std::array<std::int32_t, 256>> byte_ids;  // byte fallback
  std::int32_t unknown = kNone;
  std::string unknown_text;   // of the unigram model, which may meet it
  bool fuses_unknown = true;  // neighbours that are unknown are one token

  /// Appends the tokens of one piece. Bytes that are no UTF-8 are characters that no token has.
  void encode(std::string_view piece, std::vector<std::int32_t>& tokens) const;

 private:
  void encode_merged(std::string_view piece, std::vector<std::int32_t>& tokens) const;
  void encode_unigram(std::string_view piece, std::vector<std::int32_t>& tokens) const;
  void put_bytes(std::string_view text, std::vector<std::int32_t>& tokens) const;

  std::unordered_map<std::uint32_t, std::int32_t> characters_;  // by the bytes of their UTF-8
};

/// The way of a text to a CharacterModel.
struct CharacterPieces {
  enum class Prefix { never, first, always };
  enum class Cut { nowhere, at_marks, at_words };

  TextNormalizer normalizer;
  bool metaspace = false;         // spaces become U+2581, and one is put before a text that does not begin with it:
  Prefix prefix = Prefix::never;  // first: only where the whole text begins
  Cut cut = Cut::nowhere;         // at_marks: before each U+2581; at_words: before each that another character precedes
  CharacterModel model;

  /// Appends the tokens of a text that was normalized.
  void encode(std::string_view text, bool begins_text, PieceMemory<CharacterModel>& memory, std::vector<std::int32_t>& tokens) const;
};

}  // namespace elastiform
