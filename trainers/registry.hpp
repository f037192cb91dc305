#pragma once

#include <span>
#include <string>
#include <string_view>

#include "kernels/errors.hpp"

namespace elastiform {

/// The row of a registry with that name. Throws InputError, which lists the names.
template <class Entry>
const Entry& find_entry(std::span<const Entry> entries, std::string_view name, const char* where) {
  std::string names;
  for (const Entry& entry : entries) {
    if (entry.name == name) return entry;
    names += (names.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw InputError({where, "one of " + names, '"' + std::string(name) + '"', ""});
}

}  // namespace elastiform
