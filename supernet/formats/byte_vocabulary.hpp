#pragma once

#include <string>
#include <vector>

namespace elastiform {

/// The characters that stand for the 256 bytes in byte-level BPE (GPT-2's encoder.py), in UTF-8: printable Latin-1 for itself, the other 68
/// bytes in order from U+0100. Tokenizer libraries know bytes by no other names.
std::vector<std::string> byte_characters();

}  // namespace elastiform
