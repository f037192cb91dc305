#pragma once

#include <string>

namespace elastiform {

/// The character that stands for a byte in byte-level BPE (GPT-2's encoder.py): printable Latin-1 for itself, the other 68 bytes in order
/// from U+0100. The tokenizers library knows bytes by no other names.
std::string byte_character(int byte);

/// The bytes that a token's text stands for. Text with any other character stands for itself, as the tokenizers library decodes it.
std::string bytes_of_characters(const std::string& text);

}  // namespace elastiform
