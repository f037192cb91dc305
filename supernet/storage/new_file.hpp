#pragma once

#include <functional>
#include <string>

namespace elastiform {

/// write_durably (durable_file.hpp) for a file that must not exist: what has appeared at `path` when the content is whole stays, and InputError
/// says so.
void create_file_durably(const std::string& path, const std::function<void(const std::string&)>& write);

}  // namespace elastiform
