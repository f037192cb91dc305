#include "experiments/elastiform/utf8_stream.hpp"

#include <utility>

namespace elastiform {
namespace {

const std::string kReplacement = "\xEF\xBF\xBD";

}  // namespace

std::string Utf8Stream::take(unsigned char byte) {
  if (missing_ > 0) {
    if (byte >= low_ && byte <= high_) {
      pending_ += static_cast<char>(byte);
      low_ = 0x80, high_ = 0xBF;
      return --missing_ > 0 ? "" : std::exchange(pending_, "");
    }
    std::string broken = finish();  // first: it ends the character that this byte does not belong to
    return broken + take(byte);
  }
  if (byte < 0x80) return std::string(1, static_cast<char>(byte));
  missing_ = byte >= 0xC2 && byte <= 0xDF ? 1 : byte >= 0xE0 && byte <= 0xEF ? 2 : byte >= 0xF0 && byte <= 0xF4 ? 3 : 0;
  if (missing_ == 0) return kReplacement;
  // Overlong forms, surrogates and what lies above U+10FFFF show in the second byte (Unicode, table 3-7).
  low_ = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
  high_ = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
  pending_ = static_cast<char>(byte);
  return "";
}

std::string Utf8Stream::finish() {
  if (missing_ == 0) return "";
  missing_ = 0;
  low_ = 0x80, high_ = 0xBF;
  pending_.clear();
  return kReplacement;
}

std::string valid_utf8(std::string_view bytes) {
  Utf8Stream stream;
  std::string text;
  for (const char byte : bytes) text += stream.take(static_cast<unsigned char>(byte));
  return text + stream.finish();
}

}  // namespace elastiform
