#include "supernet/data/pictures.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/errors.hpp"
#include "supernet/data/byte_source.hpp"
#include "supernet/data/picture_decoders.hpp"

namespace elastiform {
namespace {

constexpr std::size_t kLargestFile = std::size_t{1} << 28;

std::vector<std::uint8_t> read_whole(const std::string& path) {
  ByteSource source(path);
  std::vector<std::uint8_t> bytes;
  constexpr std::size_t kPiece = 1 << 16;
  for (;;) {
    const std::size_t before = bytes.size();
    bytes.resize(before + kPiece);
    const std::size_t got = source.read(std::span(bytes).subspan(before));
    bytes.resize(before + got);
    if (got < kPiece) return bytes;
    if (bytes.size() > kLargestFile)
      throw InputError({.where = path, .expected = "a picture of at most 256 MiB", .found = "a larger file", .remedy = ""});
  }
}

/// Weights of the pixels around a place of a resized axis: a triangle as wide as a pixel of the result, or of the source where that is
/// wider, so that every pixel of a shrunk picture counts.
struct Taps {
  std::int64_t first = 0;
  std::vector<double> weights;
};

/// Of places [begin, begin + count) of an axis that is resized from `from` to `to`.
std::vector<Taps> taps_of(std::int64_t from, std::int64_t to, std::int64_t begin, std::int64_t count) {
  const double scale = static_cast<double>(from) / static_cast<double>(to), reach = std::max(scale, 1.0);
  std::vector<Taps> all;
  for (std::int64_t i = begin; i < begin + count; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const std::int64_t first = std::max<std::int64_t>(0, std::llround(std::ceil(center - reach - 0.5)));
    const std::int64_t last = std::min<std::int64_t>(from - 1, std::llround(std::floor(center + reach - 0.5)));
    Taps taps{.first = first, .weights = {}};
    double sum = 0;
    for (std::int64_t x = first; x <= last; ++x) {
      const double weight = std::max(0.0, 1 - std::abs((static_cast<double>(x) + 0.5 - center) / reach));
      taps.weights.push_back(weight);
      sum += weight;
    }
    for (double& weight : taps.weights) weight /= sum;
    all.push_back(std::move(taps));
  }
  return all;
}

}  // namespace

Picture read_picture(const std::string& path, int channels) {
  if (channels != 1 && channels != 3)
    throw InputError({.where = path,
                      .expected = "model.image with 1 or 3 channels, as pictures have",
                      .found = std::to_string(channels),
                      .remedy = "other images come as .npy"});
  const std::vector<std::uint8_t> bytes = read_whole(path);
  if (bytes.size() >= 8 && std::memcmp(bytes.data(), "\x89PNG\r\n\x1a\n", 8) == 0) return decode_png(path, bytes, channels);
  if (bytes.size() >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff) return decode_jpeg(path, bytes, channels);
  throw InputError({.where = path, .expected = "a PNG or JPEG file", .found = bytes.empty() ? "an empty one" : "another", .remedy = ""});
}

Picture resized(const Picture& picture, std::int64_t height, std::int64_t width) {
  if (picture.height == height && picture.width == width) return picture;
  // Both sides scaled alike, at least as large as wanted; the rest is cut off in equal parts.
  const double scale = std::max(static_cast<double>(height) / static_cast<double>(picture.height),
                                static_cast<double>(width) / static_cast<double>(picture.width));
  const auto side = [&](std::int64_t of, std::int64_t wanted) {
    return std::max(wanted, static_cast<std::int64_t>(std::llround(static_cast<double>(of) * scale)));
  };
  const std::int64_t rows = side(picture.height, height), columns = side(picture.width, width), C = picture.channels;
  // Only of what is kept: the whole of a strip may be millions of times as long.
  const std::vector<Taps> down = taps_of(picture.height, rows, (rows - height) / 2, height);
  const std::vector<Taps> across = taps_of(picture.width, columns, (columns - width) / 2, width);
  Picture result{height, width, C, std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * C))};
  std::vector<double> line(static_cast<std::size_t>(picture.width * C));
  for (std::int64_t y = 0; y < height; ++y) {
    const Taps& vertical = down[static_cast<std::size_t>(y)];
    std::fill(line.begin(), line.end(), 0.0);
    for (std::size_t i = 0; i < vertical.weights.size(); ++i) {
      const std::uint8_t* row = picture.values.data() + (vertical.first + static_cast<std::int64_t>(i)) * picture.width * C;
      for (std::size_t x = 0; x < line.size(); ++x) line[x] += vertical.weights[i] * row[x];
    }
    for (std::int64_t x = 0; x < width; ++x) {
      const Taps& horizontal = across[static_cast<std::size_t>(x)];
      for (std::int64_t c = 0; c < C; ++c) {
        double sum = 0;
        for (std::size_t i = 0; i < horizontal.weights.size(); ++i)
          sum += horizontal.weights[i] * line[static_cast<std::size_t>((horizontal.first + static_cast<std::int64_t>(i)) * C + c)];
        result.values[static_cast<std::size_t>((y * width + x) * C + c)] =
            static_cast<std::uint8_t>(std::lround(std::clamp(sum, 0.0, 255.0)));
      }
    }
  }
  return result;
}

}  // namespace elastiform
