#pragma once

#include <cstdint>
#include <string_view>

namespace elastiform {

/// balanced: embed, then depth uniform over their feasible values, then the blocks uniform given those. uniform: every feasible subnet
/// equally likely.
enum class Law : std::uint8_t { balanced, uniform };
std::string_view name_of(Law law);
Law parse_law(std::string_view text);  // throws InputError

}  // namespace elastiform
