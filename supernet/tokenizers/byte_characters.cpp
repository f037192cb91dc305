#include "supernet/tokenizers/byte_characters.hpp"

#include <array>
#include <cstddef>

namespace elastiform {
namespace {

constexpr int kBytes = 256, kMoved = 0x100, kCodes = 0x100 + 68;  // 68 bytes print nothing

bool prints(int byte) { return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF); }

int code_of(int byte) {
  if (prints(byte)) return byte;
  int code = kMoved;
  for (int b = 0; b < byte; ++b) code += prints(b) ? 0 : 1;
  return code;
}

/// Code point → byte, -1 for those that stand for none.
const std::array<int, kCodes>& bytes_by_code() {
  static const std::array<int, kCodes> table = [] {
    std::array<int, kCodes> bytes{};
    bytes.fill(-1);
    for (int byte = 0; byte < kBytes; ++byte) bytes[static_cast<std::size_t>(code_of(byte))] = byte;
    return bytes;
  }();
  return table;
}

}  // namespace

std::string byte_character(int byte) {
  const int code = code_of(byte);
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

std::string bytes_of_characters(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    int code = static_cast<unsigned char>(text[i]);
    if (code >= 0x80) {
      // All characters in question are below U+0144: two bytes. A longer one gives a code that is in no table.
      const bool two = code < 0xE0 && i + 1 < text.size();
      code = two ? (code & 0x1F) << 6 | (static_cast<unsigned char>(text[++i]) & 0x3F) : kCodes;
    }
    if (code >= kCodes || bytes_by_code()[static_cast<std::size_t>(code)] < 0) return text;
    bytes += static_cast<char>(bytes_by_code()[static_cast<std::size_t>(code)]);
  }
  return bytes;
}

}  // namespace elastiform
