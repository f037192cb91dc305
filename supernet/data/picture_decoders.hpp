#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "supernet/data/pictures.hpp"

namespace elastiform {

// Where a build lacks the library each throws InputError that names the package.
Picture decode_png(const std::string& path, std::span<const std::uint8_t> bytes, int channels);
Picture decode_jpeg(const std::string& path, std::span<const std::uint8_t> bytes, int channels);

}  // namespace elastiform
