// PNG and JPEG files, where this build has their libraries.
#include "supernet/data/pictures.hpp"

#include <array>
#include <filesystem>

#include "kernels/errors.hpp"
#include "supernet/data/image_set.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

std::string big_endian(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8), static_cast<char>(value)};
}

std::uint32_t crc32(const std::string& bytes) {
  std::uint32_t crc = 0xffffffff;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc % 2 != 0 ? 0xedb88320U : 0U);
  }
  return ~crc;
}

std::string chunk(const std::string& type, const std::string& data) {
  return big_endian(static_cast<std::uint32_t>(data.size())) + type + data + big_endian(crc32(type + data));
}

/// zlib's format with one block that is not compressed.
std::string stored(const std::string& data) {
  const auto size = static_cast<std::uint32_t>(data.size());
  std::uint32_t a = 1, b = 0;
  for (const char c : data) a = (a + static_cast<unsigned char>(c)) % 65521, b = (b + a) % 65521;
  const std::string header{
      0x78, 0x01, 0x01, static_cast<char>(size), static_cast<char>(size >> 8), static_cast<char>(~size), static_cast<char>(~size >> 8)};
  return header + data + big_endian(b << 16 | a);
}

/// An RGB PNG file of rows · columns · 3 bytes; what its header says may be something else.
std::string png(const std::string& values, std::uint32_t rows, std::uint32_t columns, std::uint32_t said_rows = 0,
                std::uint32_t said_columns = 0) {
  std::string lines;
  for (std::uint32_t y = 0; y < rows; ++y) lines += std::string(1, 0) + values.substr(3 * y * columns, 3 * columns);
  const std::string header =
      big_endian(said_columns ? said_columns : columns) + big_endian(said_rows ? said_rows : rows) + std::string{8, 2, 0, 0, 0};
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + chunk("IDAT", stored(lines)) + chunk("IEND", "");
}

std::string colours(std::uint32_t pixels) {
  std::string values;
  for (std::uint32_t i = 0; i < 3 * pixels; ++i) values += static_cast<char>(i * 7 % 256);
  return values;
}

// 8 x 8 pixels, the left half (200, 40, 40), the right half (40, 40, 200), by libjpeg at quality 90.
constexpr std::array<unsigned char, 304> kJpeg = {
    0xff, 0xd8, 0xff, 0xe0, 0x00, 0x10, 0x4a, 0x46, 0x49, 0x46, 0x00, 0x01, 0x01, 0x00, 0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0xff, 0xdb,
    0x00, 0x43, 0x00, 0x03, 0x02, 0x02, 0x03, 0x02, 0x02, 0x03, 0x03, 0x03, 0x03, 0x04, 0x03, 0x03, 0x04, 0x05, 0x08, 0x05, 0x05, 0x04,
    0x04, 0x05, 0x0a, 0x07, 0x07, 0x06, 0x08, 0x0c, 0x0a, 0x0c, 0x0c, 0x0b, 0x0a, 0x0b, 0x0b, 0x0d, 0x0e, 0x12, 0x10, 0x0d, 0x0e, 0x11,
    0x0e, 0x0b, 0x0b, 0x10, 0x16, 0x10, 0x11, 0x13, 0x14, 0x15, 0x15, 0x15, 0x0c, 0x0f, 0x17, 0x18, 0x16, 0x14, 0x18, 0x12, 0x14, 0x15,
    0x14, 0xff, 0xdb, 0x00, 0x43, 0x01, 0x03, 0x04, 0x04, 0x05, 0x04, 0x05, 0x09, 0x05, 0x05, 0x09, 0x14, 0x0d, 0x0b, 0x0d, 0x14, 0x14,
    0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14,
    0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14, 0x14,
    0x14, 0x14, 0x14, 0x14, 0xff, 0xc0, 0x00, 0x11, 0x08, 0x00, 0x08, 0x00, 0x08, 0x03, 0x01, 0x11, 0x00, 0x02, 0x11, 0x01, 0x03, 0x11,
    0x01, 0xff, 0xc4, 0x00, 0x14, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x08, 0xff, 0xc4, 0x00, 0x18, 0x10, 0x00, 0x02, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x06, 0x44, 0x82, 0xc2, 0xff, 0xc4, 0x00, 0x14, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x07, 0xff, 0xc4, 0x00, 0x19, 0x11, 0x00, 0x02, 0x03, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x07, 0x44, 0x83, 0xc2, 0xc3, 0xff, 0xda, 0x00, 0x0c, 0x03, 0x01, 0x00, 0x02, 0x11, 0x03, 0x11, 0x00,
    0x3f, 0x00, 0x36, 0x3b, 0x42, 0xbe, 0x44, 0x74, 0xf4, 0xfa, 0xba, 0x0b, 0x2d, 0x48, 0x56, 0x60, 0xff, 0xd9};
std::string jpeg() { return {kJpeg.begin(), kJpeg.end()}; }

/// Whether this build reads such files; if not, that it says which package is missing.
bool reads(const std::string& path, const char* package) {
  try {
    read_picture(path, 3);
    return true;
  } catch (const InputError& error) {
    CHECK(std::string(error.what()).find(package) != std::string::npos);
    WARN("skipped: " << error.what());
    return false;
  }
}

void check_refused(const std::string& path, const std::string& part, int channels = 3) {
  CAPTURE(path);
  check_input_error([&] { read_picture(path, channels); }, part);
}

}  // namespace

TEST_CASE("a PNG file is read as it was written", "[supernet][images]") {
  const TemporaryFolder folder;
  const std::string values = colours(6), path = folder.write("a.png", png(values, 2, 3));
  if (!reads(path, "libpng-dev")) return;
  const Picture picture = read_picture(path, 3);
  CHECK((picture.height == 2 && picture.width == 3 && picture.channels == 3));
  CHECK(std::string(picture.values.begin(), picture.values.end()) == values);
  CHECK(read_picture(path, 1).values.size() == 6);
}

TEST_CASE("a JPEG file is read as libjpeg writes it", "[supernet][images]") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a.jpg", jpeg());
  if (!reads(path, "libjpeg-dev")) return;
  const Picture picture = read_picture(path, 3);
  REQUIRE((picture.height == 8 && picture.width == 8));
  for (int c = 0; c < 3; ++c) {
    CHECK(std::abs(picture.values[static_cast<std::size_t>(c)] - (c == 0 ? 200 : 40)) <= 4);
    CHECK(std::abs(picture.values[static_cast<std::size_t>(21 + c)] - (c == 2 ? 200 : 40)) <= 4);
  }
}

TEST_CASE("a folder for each class is read in the order of names", "[supernet][images]") {
  const TemporaryFolder folder;
  for (const char* name : {"dog", "cat"}) std::filesystem::create_directory(folder / name);
  folder.write("dog/1.png", png(std::string(12, '\x20'), 2, 2));
  if (!reads(folder / "dog/1.png", "libpng-dev")) return;
  folder.write("cat/2.PNG", png(std::string(48, '\x40'), 4, 4));
  folder.write("cat/1.png", png(std::string(12, '\x60'), 2, 2));
  folder.write("cat/notes.txt", "no picture");
  folder.write("cat/.hidden.png", "no picture");
  ImageOptions options;
  options.images = folder.path();
  const ImageSet set = read_images(options, {2, 2, 3, 1}, 2);
  CHECK(set.labels == std::vector<std::int32_t>{0, 0, 1});
  CHECK((set.value(0) == 0x60 && set.value(12) == 0x40 && set.value(24) == 0x20));
  ModelConfig model = preset_model("vit");
  model.vocabulary = 2;
  CHECK(class_names(options, model) == std::vector<std::string>{"cat", "dog"});
  model.vocabulary = 3;
  CHECK(class_names(options, model).empty());  // folders that are not its classes name none
  CHECK_THROWS_AS(read_images(options, {2, 2, 2, 1}, 2), InputError);
  std::filesystem::create_directory(folder / "empty");
  CHECK_THROWS_AS(read_images(options, {2, 2, 3, 1}, 3), InputError);
}

TEST_CASE("hostile pictures end in one line each", "[supernet][images][hostile]") {
  const TemporaryFolder folder;
  const std::string good = png(colours(6), 2, 3), good_jpeg = jpeg();
  if (!reads(folder.write("good.png", good), "libpng-dev") || !reads(folder.write("good.jpg", good_jpeg), "libjpeg-dev")) return;
  check_refused(folder / "nothing.png", "nothing");
  check_refused(folder.path(), "something else");
  check_refused(folder.write("a.png", ""), "empty");
  check_refused(folder.write("a.png", "GIF89a"), "a PNG or JPEG file");
  check_refused(folder / "good.png", "1 or 3 channels", 2);
  for (std::size_t cut = 8; cut < good.size() - 12; cut += 5) check_refused(folder.write("a.png", good.substr(0, cut)), "PNG");
  for (std::size_t cut = 3; cut < good_jpeg.size() - 4; cut += 11) check_refused(folder.write("a.jpg", good_jpeg.substr(0, cut)), "JPEG");
  std::string flipped = good;
  flipped[50] = static_cast<char>(flipped[50] ^ 1);  // in the pixels, whose checksum then is wrong
  check_refused(folder.write("a.png", flipped), "PNG");
  check_refused(folder.write("a.png", png(colours(6), 2, 3, 60000, 60000)), "2^26 pixels");
  check_refused(folder.write("a.png", png(colours(6), 2, 3, 8000, 8000)), "bytes");  // nothing of that size is allocated
  check_refused(folder.write("a.png", png(colours(6), 2, 3, 200, 3)), "PNG");
  std::string tall = good_jpeg;
  const std::size_t frame = tall.find("\xff\xc0");
  REQUIRE(frame != std::string::npos);
  tall[frame + 5] = '\x20';  // 8,200 rows for the data of 8
  check_refused(folder.write("a.jpg", tall), "JPEG");
  tall[frame + 5] = '\xff', tall[frame + 7] = '\xff';
  check_refused(folder.write("a.jpg", tall), "");
}

}  // namespace elastiform
