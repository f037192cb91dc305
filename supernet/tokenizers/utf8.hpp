#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace elastiform {

/// Bytes of the UTF-8 character at `at`, 0 when there is none: no overlong form, no surrogate, nothing above U+10FFFF.
std::size_t utf8_length(std::string_view text, std::size_t at);
bool is_utf8(std::string_view text);

/// A text from a file, for a message: its first 32 bytes in quotes, '?' for control characters and for bytes that are no UTF-8.
std::string token_in_quotes(std::string_view text);

}  // namespace elastiform
