#include "supernet/formats/byte_vocabulary.hpp"

namespace elastiform {

std::vector<std::string> byte_characters() {
  const auto prints = [](int b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF); };
  std::vector<std::string> characters;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int code = prints(byte) ? byte : next++;
    if (code < 0x80) characters.emplace_back(1, static_cast<char>(code));
    else characters.push_back({static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))});
  }
  return characters;
}

}  // namespace elastiform
