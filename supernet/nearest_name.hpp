#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/errors.hpp"

namespace elastiform {

/// The known name with the least edit distance to `name` (letters inserted, deleted, replaced or two neighbours swapped; case ignored);
/// of equal ones the first. Empty when `known` is. Names longer than 256 bytes are compared by their first 256.
std::string nearest_name(std::string_view name, const std::vector<std::string_view>& known);

/// The error for a name nobody knows: "WHERE: expected one of a, b, c, found 'x'; nearest b".
InputError unknown_name(std::string where, std::string_view name, const std::vector<std::string_view>& known);

/// "2, 4, 6": choices for messages; more than `most` end in "… (N in all)".
std::string list_of(const std::vector<std::string>& items, std::size_t most = 16);
std::string list_of(const std::vector<int>& items, std::size_t most = 16);

}  // namespace elastiform
