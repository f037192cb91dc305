#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace elastiform {

/// Empty, or why a name of a class is not passed on: it is printed, and written into files of a line a name, so it is UTF-8 on one line
/// without control characters.
std::string why_no_class_name(std::string_view name);

/// Throws InputError (where: `where`) for the first such name.
void check_class_names(const std::vector<std::string>& names, const std::string& where);

/// Whether the names are LABEL_0, LABEL_1, …, which stand for none.
bool are_default_labels(const std::vector<std::string>& names);

}  // namespace elastiform
