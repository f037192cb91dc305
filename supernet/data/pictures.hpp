#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace elastiform {

/// Pixels of a picture, [row][column][channel].
struct Picture {
  std::int64_t height = 0, width = 0, channels = 0;
  std::vector<std::uint8_t> values;
};

/// Decodes a PNG or JPEG file, by its first bytes, as gray (1 channel) or RGB (3). Throws InputError where it is neither, is damaged, has
/// more than 2^26 pixels, or where this build has no library for it.
Picture read_picture(const std::string& path, int channels);

/// The picture with its shorter side as that of height x width, and of it the middle.
Picture resized(const Picture& picture, std::int64_t height, std::int64_t width);

}  // namespace elastiform
