#include "supernet/tokenizers/utf8.hpp"

namespace elastiform {

std::size_t utf8_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](std::size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  const unsigned first = byte(at), second = byte(at + 1);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return follows(at + 1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const bool in_range = !(first == 0xE0 && second < 0xA0) && !(first == 0xED && second > 0x9F);
    return in_range && follows(at + 1) && follows(at + 2) ? 3 : 0;
  }
  if (first < 0xF0 || first > 0xF4) return 0;
  const bool in_range = !(first == 0xF0 && second < 0x90) && !(first == 0xF4 && second > 0x8F);
  return in_range && follows(at + 1) && follows(at + 2) && follows(at + 3) ? 4 : 0;
}

std::string token_in_quotes(std::string_view text) {
  constexpr std::size_t kShown = 32;
  std::string shown = "'";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text, at), next = at + (length == 0 ? 1 : length);
    if (next > kShown) return shown + "...'";
    const auto first = static_cast<unsigned char>(text[at]);
    const bool control = length == 0 || first < 0x20 || first == 0x7F || (first == 0xC2 && static_cast<unsigned char>(text[at + 1]) < 0xA0);
    shown += control ? "?" : std::string(text.substr(at, length));
    at = next;
  }
  return shown + "'";
}

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

}  // namespace elastiform
