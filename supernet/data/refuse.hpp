#pragma once

#include <string>
#include <utility>

#include "kernels/errors.hpp"

namespace elastiform {

/// Throws the InputError about a file of images.
[[noreturn]] inline void refuse_file(const std::string& path, std::string expected, std::string found, std::string remedy = "") {
  throw InputError({.where = path, .expected = std::move(expected), .found = std::move(found), .remedy = std::move(remedy)});
}

}  // namespace elastiform
