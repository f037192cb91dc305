#pragma once

// For sources only: nlohmann's header costs a second of compile time.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace elastiform {

/// Parses JSON that nobody vouches for: invalid UTF-8, duplicate keys and nesting deeper than `depth` are InputErrors that name `where`.
nlohmann::json parse_untrusted_json(std::string_view text, const std::string& where, int depth);

/// A file of at most `limit` bytes, whole. InputError when it cannot be read or is larger.
std::string read_small_file(const std::string& path, std::size_t limit);

}  // namespace elastiform
