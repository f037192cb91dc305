#pragma once

#include <cstddef>
#include <string_view>

namespace elastiform {

/// Bytes of the UTF-8 character at `at`, 0 when there is none: no overlong form, no surrogate, nothing above U+10FFFF.
std::size_t utf8_length(std::string_view text, std::size_t at);
bool is_utf8(std::string_view text);

}  // namespace elastiform
