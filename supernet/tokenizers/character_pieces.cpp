#include "supernet/tokenizers/character_pieces.hpp"

#include <algorithm>

#include "supernet/tokenizers/utf8.hpp"

namespace elastiform {
namespace {

std::uint32_t key_of(std::string_view character) {
  std::uint32_t key = 0;
  for (const char byte : character) key = key << 8 | static_cast<unsigned char>(byte);
  return key;
}

/// Where the piece that begins at `begin` ends.
std::size_t end_of_piece(std::string_view text, std::size_t begin, CharacterPieces::Cut cut) {
  if (cut == CharacterPieces::Cut::nowhere) return text.size();
  std::size_t at = begin;
  if (cut == CharacterPieces::Cut::at_words)
    while (text.substr(at).starts_with(kSpaceMark)) at += kSpaceMark.size();
  else if (text.substr(at).starts_with(kSpaceMark)) at += kSpaceMark.size();
  return std::min(text.find(kSpaceMark, at), text.size());
}

}  // namespace

void CharacterModel::add_character(std::string_view character, std::int32_t id) { characters_.emplace(key_of(character), id); }

void CharacterModel::put_bytes(std::string_view text, std::vector<std::int32_t>& tokens) const {
  for (const char byte : text) tokens.push_back((*byte_ids)[static_cast<unsigned char>(byte)]);
}

void CharacterModel::encode_merged(std::string_view piece, std::vector<std::int32_t>& tokens) const {
  std::vector<std::int32_t> first;
  bool after_unknown = false;
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t length = utf8_length(piece, at);
    const std::string_view character = piece.substr(at, std::max<std::size_t>(length, 1));
    at += character.size();
    const auto found = length == 0 ? characters_.end() : characters_.find(key_of(character));
    const bool known = found != characters_.end();
    if (known) first.push_back(found->second);
    else if (byte_ids) put_bytes(character, first);
    else if (unknown != kNone && !(after_unknown && fuses_unknown)) first.push_back(unknown);
    after_unknown = !known;
  }
  merges.merge(first, tokens);
}

void CharacterModel::encode_unigram(std::string_view piece, std::vector<std::int32_t>& tokens) const {
  unigram->encode(
      piece, [&](std::int32_t id) { tokens.push_back(id); },
      [&](std::string_view text) {
        if (byte_ids && text != unknown_text) put_bytes(text, tokens);
        else tokens.push_back(unknown);
      });
}

void CharacterModel::encode(std::string_view piece, std::vector<std::int32_t>& tokens) const {
  if (unigram) encode_unigram(piece, tokens);
  else encode_merged(piece, tokens);
}

void CharacterPieces::encode(std::string_view text, bool begins_text, PieceMemory<CharacterModel>& memory,
                             std::vector<std::int32_t>& tokens) const {
  std::string marked;
  if (metaspace) {
    marked = replaced(text, " ", kSpaceMark);
    const bool wanted = prefix == Prefix::always || (prefix == Prefix::first && begins_text);
    if (wanted && !marked.empty() && !marked.starts_with(kSpaceMark)) marked.insert(0, kSpaceMark);
    text = marked;
  }
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = end_of_piece(text, at, cut);
    memory.encode(text.substr(at, end - at), tokens);
    at = end;
  }
}

}  // namespace elastiform
