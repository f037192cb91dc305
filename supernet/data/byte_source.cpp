#include "supernet/data/byte_source.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#ifdef ELASTIFORM_HAS_ZLIB
#include <zlib.h>
#endif

#include "supernet/data/refuse.hpp"

namespace elastiform {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

bool is_packed(std::FILE* file) {
  std::array<unsigned char, 2> magic{};
  const bool packed = std::fread(magic.data(), 1, 2, file) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
  std::rewind(file);
  return packed;
}

}  // namespace

struct ByteSource::State {
  File file;
#ifdef ELASTIFORM_HAS_ZLIB
  gzFile packed = nullptr;
  ~State() {
    if (packed != nullptr) gzclose(packed);
  }
#endif
};

ByteSource::ByteSource(const std::string& path) : path_(path), state_(std::make_unique<State>()) {
  std::error_code error;
  const auto kind = std::filesystem::status(path, error).type();
  if (kind == std::filesystem::file_type::not_found) refuse_file(path, "a file of images or labels", "nothing");
  if (kind != std::filesystem::file_type::regular) refuse_file(path, "a file of images or labels", "something else");
  state_->file.reset(std::fopen(path.c_str(), "rb"));
  if (!state_->file) refuse_file(path, "a file that can be read", std::strerror(errno));
  if (!is_packed(state_->file.get())) return;
#ifdef ELASTIFORM_HAS_ZLIB
  state_->packed = gzopen(path.c_str(), "rb");
  if (state_->packed == nullptr) refuse_file(path, "a file that can be read", "none");
#else
  refuse_file(path, "an unpacked file: this build has no zlib", "a gzip file", "unpack it, or install zlib1g-dev and build again");
#endif
}
ByteSource::~ByteSource() = default;
ByteSource::ByteSource(ByteSource&&) noexcept = default;

std::uint64_t ByteSource::most() const {
#ifdef ELASTIFORM_HAS_ZLIB
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path_, error);
  if (state_->packed != nullptr && !error && size < UINT64_MAX / 1032) return size * 1032;
#endif
  return UINT64_MAX;
}

std::size_t ByteSource::read(std::span<std::uint8_t> to) {
  std::size_t done = 0;
#ifdef ELASTIFORM_HAS_ZLIB
  if (state_->packed != nullptr) {
    while (done < to.size()) {
      const auto wanted = static_cast<unsigned>(std::min<std::size_t>(to.size() - done, 1 << 20));
      const int got = gzread(state_->packed, to.data() + done, wanted);
      int error = Z_OK;
      const char* const what = gzerror(state_->packed, &error);
      if (got < 0 || error == Z_BUF_ERROR || error == Z_DATA_ERROR)  // Z_BUF_ERROR: the end came early
        refuse_file(path_, "a whole gzip file",
                    error == Z_BUF_ERROR ? "a truncated one" : std::string(what != nullptr ? what : "a damaged one"));
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }
#endif
  done = std::fread(to.data(), 1, to.size(), state_->file.get());
  if (done < to.size() && std::ferror(state_->file.get()) != 0) refuse_file(path_, "a file that can be read", std::strerror(errno));
  return done;
}

}  // namespace elastiform
