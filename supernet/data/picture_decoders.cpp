#include "supernet/data/picture_decoders.hpp"

#include <csetjmp>
#include <cstdio>

#ifdef ELASTIFORM_HAS_PNG
#include <png.h>
#endif
#ifdef ELASTIFORM_HAS_JPEG
#include <jpeglib.h>  // after <cstdio>, which it needs
#endif

#include "supernet/data/refuse.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kMostPixels = std::int64_t{1} << 26;

#if !defined(ELASTIFORM_HAS_PNG) || !defined(ELASTIFORM_HAS_JPEG)
[[noreturn]] void refuse_without_library(const std::string& path, const char* kind, const char* package) {
  throw InputError({.where = path,
                    .expected = std::string("a build with the library of ") + kind,
                    .found = "none",
                    .remedy = std::string("install ") + package + " and build again"});
}
#endif

/// Room for the pixels of a header. Deflate packs a byte of up to 8 pixels of 1 bit into a 1032nd: a lying header asks for more than its
/// file can hold.
Picture picture_of(const std::string& path, std::int64_t height, std::int64_t width, int channels, std::size_t file) {
  if (height < 1 || width < 1 || height > kMostPixels / width)
    refuse_file(path, "a picture of 1 to 2^26 pixels", std::to_string(height) + " x " + std::to_string(width));
  const std::int64_t bytes = height * width * channels;
  if (bytes > static_cast<std::int64_t>(file) * 1032 * 8 * channels)
    refuse_file(path, "pixels for " + std::to_string(height) + " x " + std::to_string(width), std::to_string(file) + " bytes");
  return {height, width, channels, std::vector<std::uint8_t>(static_cast<std::size_t>(bytes))};
}

}  // namespace

#ifdef ELASTIFORM_HAS_PNG
Picture decode_png(const std::string& path, std::span<const std::uint8_t> bytes, int channels) {
  struct Image : png_image {
    Image() : png_image{} { version = PNG_IMAGE_VERSION; }
    Image(const Image&) = delete;
    Image& operator=(const Image&) = delete;
    ~Image() { png_image_free(this); }
  } image;
  const auto need = [&](int done) {
    if (done == 0 || PNG_IMAGE_FAILED(image)) refuse_file(path, "a whole PNG file", image.message);
  };
  need(png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()));
  image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;  // 16 bits without gAMA are sRGB, as 8 bits are
  image.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  Picture picture = picture_of(path, image.height, image.width, channels, bytes.size());
  const png_color black{};  // behind what is transparent
  need(png_image_finish_read(&image, &black, picture.values.data(), 0, nullptr));
  return picture;
}
#else
Picture decode_png(const std::string& path, std::span<const std::uint8_t>, int) { refuse_without_library(path, "PNG", "libpng-dev"); }
#endif

#ifdef ELASTIFORM_HAS_JPEG
namespace {

/// libjpeg leaves by longjmp: what it fills stands outside, and nothing with a destructor is made in between.
struct JpegErrors {
  jpeg_error_mgr manager;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void leave(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  errors->manager.format_message(info, errors->message);
  std::longjmp(errors->jump, 1);
}
/// A warning says that data are damaged: half a picture is none.
void emit(j_common_ptr info, int level) {
  if (level < 0) leave(info);
}

struct JpegDecoder {
  JpegErrors errors{};
  jpeg_decompress_struct info{};
  JpegDecoder() {
    info.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = leave;
    errors.manager.emit_message = emit;
  }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  ~JpegDecoder() { jpeg_destroy_decompress(&info); }
};

bool read_header(JpegDecoder& d, std::span<const std::uint8_t> bytes, int channels) {
  if (setjmp(d.errors.jump) != 0) return false;
  jpeg_create_decompress(&d.info);
  jpeg_mem_src(&d.info, bytes.data(), static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&d.info, TRUE);
  d.info.out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  return true;
}

bool read_pixels(JpegDecoder& d, std::uint8_t* to, std::size_t row_bytes) {
  if (setjmp(d.errors.jump) != 0) return false;
  jpeg_start_decompress(&d.info);
  while (d.info.output_scanline < d.info.output_height) {
    JSAMPROW row = to + d.info.output_scanline * row_bytes;
    jpeg_read_scanlines(&d.info, &row, 1);
  }
  jpeg_finish_decompress(&d.info);
  return true;
}

}  // namespace

Picture decode_jpeg(const std::string& path, std::span<const std::uint8_t> bytes, int channels) {
  JpegDecoder decoder;
  if (!read_header(decoder, bytes, channels)) refuse_file(path, "a whole JPEG file", decoder.errors.message);
  Picture picture = picture_of(path, decoder.info.image_height, decoder.info.image_width, channels, bytes.size());
  if (!read_pixels(decoder, picture.values.data(), static_cast<std::size_t>(picture.width * channels)))
    refuse_file(path, "a whole JPEG file", decoder.errors.message);
  return picture;
}
#else
Picture decode_jpeg(const std::string& path, std::span<const std::uint8_t>, int) { refuse_without_library(path, "JPEG", "libjpeg-dev"); }
#endif

}  // namespace elastiform
