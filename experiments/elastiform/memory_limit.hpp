#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace elastiform {

/// "512MiB", "1.5GiB", "2G" (powers of 1000) or bytes, of --memory-limit. Throws InputError.
std::int64_t parse_memory_limit(std::string_view text);

/// The same the other way. Rounded up, what it prints can be typed and suffices; rounded down, it is what somebody has.
enum class Rounded : std::uint8_t { up, down };
std::string memory_limit_text(std::int64_t bytes, Rounded rounded = Rounded::up);

}  // namespace elastiform
