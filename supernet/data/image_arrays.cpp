// Arrays of images and labels: IDX, as MNIST comes, and NumPy's .npy.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string_view>

#include "supernet/data/byte_source.hpp"
#include "supernet/data/image_set.hpp"
#include "supernet/data/refuse.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kMostImages = std::int64_t{1} << 31;

void read_exactly(ByteSource& source, std::span<std::uint8_t> to, const char* what) {
  if (source.read(to) != to.size()) refuse_file(source.path(), what, "a truncated file");
}

/// `size` bytes, as they come: memory grows with what is there, whatever a header says. Nothing may follow them.
std::vector<std::uint8_t> read_rest(ByteSource& source, std::uint64_t size) {
  constexpr std::uint64_t kPiece = 1 << 20;
  if (size > source.most()) refuse_file(source.path(), std::to_string(size) + " bytes of values, as its header says", "too few");
  std::vector<std::uint8_t> bytes;
  while (bytes.size() < size) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, size - bytes.size()));
    bytes.resize(bytes.size() + wanted);
    const std::size_t got = source.read(std::span(bytes).last(wanted));
    if (got < wanted)
      refuse_file(source.path(), std::to_string(size) + " bytes of values, as its header says",
                  std::to_string(bytes.size() - wanted + got));
  }
  std::array<std::uint8_t, 1> more{};
  if (source.read(more) != 0) refuse_file(source.path(), std::to_string(size) + " bytes of values, as its header says", "more");
  return bytes;
}

std::string shown(const std::vector<std::int64_t>& dims) {
  std::string text;
  for (const std::int64_t d : dims) text += (text.empty() ? "[" : ", ") + std::to_string(d);
  return text.empty() ? "[]" : text + "]";
}

/// An array of numbers, as a file holds it.
struct Array {
  std::vector<std::int64_t> dims;
  char kind = 'u';  // u, i: whole numbers; f: floats
  int width = 1;    // bytes of an element
  bool big_endian = false;
  std::vector<std::uint8_t> bytes;

  std::int64_t size() const { return static_cast<std::int64_t>(bytes.size()) / width; }
  double at(std::int64_t i) const {
    std::array<std::uint8_t, 8> raw{};
    std::copy_n(bytes.begin() + i * width, width, raw.begin());
    if (big_endian) std::reverse(raw.begin(), raw.begin() + width);
    std::uint64_t bits = 0;
    std::memcpy(&bits, raw.data(), 8);
    if (kind == 'f')
      return width == 8 ? std::bit_cast<double>(bits) : static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    if (kind == 'u') return static_cast<double>(bits);
    const int unused = 64 - 8 * width;
    return static_cast<double>(static_cast<std::int64_t>(bits << unused) >> unused);
  }
};

/// Elements of an array whose every extent is positive and whose number stays small.
std::uint64_t elements_of(const std::string& path, const std::vector<std::int64_t>& dims) {
  std::uint64_t count = 1;
  for (const std::int64_t d : dims) {
    if (d < 0 || d > kMostImages) refuse_file(path, "extents of at most 2^31", std::to_string(d));
    count *= static_cast<std::uint64_t>(d);
    if (count > std::uint64_t{1} << 40) refuse_file(path, "at most 2^40 values", "an array of " + shown(dims));
  }
  return count;
}

/// Throws InputError where extents and type are not what is wanted, before any value is read.
using Accept = std::function<void(const Array&)>;

Array read_idx_array(const std::string& path, const Accept& accept) {
  ByteSource source(path);
  std::array<std::uint8_t, 4> magic{};
  read_exactly(source, magic, "an IDX file");
  if (magic[0] != 0 || magic[1] != 0 || magic[3] < 1 || magic[3] > 4)
    refuse_file(path, "an IDX file of 1 to 4 axes, or .npy, .csv, .csv.gz or a folder", "another file");
  if (magic[2] != 0x08) refuse_file(path, "an IDX file of unsigned bytes", "elements of type " + std::to_string(magic[2]));
  Array array;
  for (int i = 0; i < magic[3]; ++i) {
    std::array<std::uint8_t, 4> raw{};
    read_exactly(source, raw, "the extents of an IDX file");
    array.dims.push_back(static_cast<std::int64_t>(raw[0]) << 24 | raw[1] << 16 | raw[2] << 8 | raw[3]);
  }
  accept(array);
  array.bytes = read_rest(source, elements_of(path, array.dims));
  return array;
}

/// The text after 'key': in the header of an .npy file, which is a Python dictionary.
std::string_view value_of(const std::string& path, std::string_view header, const std::string& key) {
  const auto at = header.find("'" + key + "'");
  const auto colon = at == std::string_view::npos ? at : header.find(':', at);
  if (colon == std::string_view::npos) refuse_file(path, "'" + key + "' in the header of an .npy file", "none");
  std::string_view rest = header.substr(colon + 1);
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  return rest;
}

std::vector<std::int64_t> shape_in(const std::string& path, std::string_view text) {
  const auto close = text.find(')');
  if (text.empty() || text.front() != '(' || close == std::string_view::npos) refuse_file(path, "a shape in brackets", "something else");
  std::vector<std::int64_t> dims;
  std::string_view rest = text.substr(1, close - 1);
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    std::string_view item = rest.substr(0, comma);
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    std::int64_t extent = 0;
    const auto [stop, error] = std::from_chars(item.data(), item.data() + item.size(), extent);
    if (!item.empty() && (error != std::errc() || stop != item.data() + item.size() || extent < 0))
      refuse_file(path, "whole numbers as shape", "'" + std::string(item.substr(0, 40)) + "'");
    if (!item.empty()) dims.push_back(extent);
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (dims.empty() || dims.size() > 4) refuse_file(path, "an array of 1 to 4 axes", std::to_string(dims.size()) + " axes");
  return dims;
}

Array read_npy_array(const std::string& path, const Accept& accept) {
  ByteSource source(path);
  std::array<std::uint8_t, 8> magic{};
  read_exactly(source, magic, "an .npy file");
  if (std::memcmp(magic.data(), "\x93NUMPY", 6) != 0) refuse_file(path, "an .npy file", "another file");
  if (magic[6] < 1 || magic[6] > 3) refuse_file(path, "version 1, 2 or 3 of the .npy format", std::to_string(magic[6]));
  std::array<std::uint8_t, 4> raw{};
  read_exactly(source, std::span(raw).first(magic[6] == 1 ? 2 : 4), "the header of an .npy file");
  const std::size_t length = raw[0] | raw[1] << 8 | raw[2] << 16 | static_cast<std::size_t>(raw[3]) << 24;
  if (length > 1 << 16) refuse_file(path, "a header of at most 64 KiB", std::to_string(length) + " bytes");
  std::vector<std::uint8_t> text(length);
  read_exactly(source, text, "the header of an .npy file");
  const std::string_view header(reinterpret_cast<const char*>(text.data()), text.size());

  Array array;
  const std::string_view type = value_of(path, header, "descr");
  const std::string name(type.substr(0, type.find(',')));
  if (type.size() < 5 || type[0] != '\'' || std::string_view("<>|=").find(type[1]) == std::string_view::npos)
    refuse_file(path, "elements of one type of numbers", name.substr(0, 40));
  array.big_endian = type[1] == '>';
  array.kind = type[2], array.width = type[3] - '0';
  const bool whole =
      (array.kind == 'u' || array.kind == 'i') && (array.width == 1 || array.width == 2 || array.width == 4 || array.width == 8);
  if (type[4] != '\'' || (!whole && !(array.kind == 'f' && (array.width == 4 || array.width == 8))))
    refuse_file(path, "elements u1, u2, u4, u8, i1, i2, i4, i8, f4 or f8", name.substr(0, 40));
  if (!value_of(path, header, "fortran_order").starts_with("False"))
    refuse_file(path, "an array in C order", "Fortran order", "numpy.ascontiguousarray makes one");
  array.dims = shape_in(path, value_of(path, header, "shape"));
  accept(array);
  array.bytes = read_rest(source, elements_of(path, array.dims) * static_cast<std::uint64_t>(array.width));
  return array;
}

using Reader = Array (*)(const std::string&, const Accept&);

/// channels_first: [n][channel][row][column].
bool fits(const Array& array, const ImageShape& shape, bool& channels_first) {
  const std::vector<std::int64_t> last{array.dims.front(), shape.height, shape.width, shape.channels};
  const std::vector<std::int64_t> first{array.dims.front(), shape.channels, shape.height, shape.width};
  const std::vector<std::int64_t> none{array.dims.front(), shape.height, shape.width};
  channels_first = array.dims == first && array.dims != last;
  return array.dims == last || array.dims == first || (shape.channels == 1 && array.dims == none);
}

void require_fit(const std::string& path, const Array& array, const ImageShape& shape) {
  bool channels_first = false;
  if (!fits(array, shape, channels_first))
    refuse_file(path,
                "an array [n, " + std::to_string(shape.height) + ", " + std::to_string(shape.width) +
                    (shape.channels == 1 ? "]" : ", " + std::to_string(shape.channels) + "]"),
                shown(array.dims), "model.image says how large an image is");
}

void take_images(const std::string& path, const Array& array, const ImageShape& shape, ImageSet& set) {
  bool channels_first = false;
  fits(array, shape, channels_first);
  set.count = array.dims.front();
  const std::int64_t pixels = std::int64_t{shape.height} * shape.width, values = shape.values(), channels = shape.channels;
  const bool bytes = array.kind == 'u' && array.width == 1;
  if (bytes) set.bytes.resize(array.bytes.size());
  else set.floats.resize(static_cast<std::size_t>(array.size()));
  for (std::int64_t i = 0; i < array.size(); ++i) {
    const std::int64_t image = i / values, at = i % values;
    const std::int64_t to = channels_first ? image * values + at % pixels * channels + at / pixels : i;
    if (bytes) {
      set.bytes[static_cast<std::size_t>(to)] = array.bytes[static_cast<std::size_t>(i)];
      continue;
    }
    const double value = array.at(i);
    if (!(std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max())))
      refuse_file(path + ": image " + std::to_string(image), "finite values of float32", "one that is none");
    set.floats[static_cast<std::size_t>(to)] = static_cast<float>(value);
  }
}

ImageSet read_pair(Reader read, const std::string& images, const std::string& labels, const ImageShape& shape) {
  ImageSet set;
  take_images(images, read(images, [&](const Array& array) { require_fit(images, array, shape); }), shape, set);
  if (labels.empty()) return set;
  const Array classes = read(labels, [&](const Array& array) {
    if (array.dims.size() != 1 || array.dims.front() != set.count)
      refuse_file(labels, "an array [" + std::to_string(set.count) + "], a class for each image", shown(array.dims));
    if (array.kind == 'f') refuse_file(labels, "whole numbers as classes", "floats");
  });
  for (std::int64_t i = 0; i < set.count; ++i) {
    const double value = classes.at(i);
    set.labels.push_back(std::abs(value) < 1e9 ? static_cast<std::int32_t>(value) : -1);
  }
  return set;
}

}  // namespace

ImageSet read_idx(const std::string& images, const std::string& labels, const ImageShape& shape) {
  return read_pair(read_idx_array, images, labels, shape);
}
ImageSet read_npy(const std::string& images, const std::string& labels, const ImageShape& shape) {
  return read_pair(read_npy_array, images, labels, shape);
}

}  // namespace elastiform
