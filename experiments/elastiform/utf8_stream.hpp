#pragma once

#include <string>
#include <string_view>

namespace elastiform {

/// Turns bytes that come one by one into text that is valid UTF-8: whole characters as soon as they are complete, U+FFFD for each maximal
/// part of a broken one (the practice that Unicode recommends, section 3.9).
class Utf8Stream {
 public:
  /// What can be shown now that `byte` has come; may be empty.
  std::string take(unsigned char byte);
  /// What is left when no more comes.
  std::string finish();

 private:
  std::string pending_;                     // a character's first bytes
  int missing_ = 0;                         // bytes that it still needs
  unsigned char low_ = 0x80, high_ = 0xBF;  // what its next byte may be
};

std::string valid_utf8(std::string_view bytes);

}  // namespace elastiform
