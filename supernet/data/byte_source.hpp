#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace elastiform {

/// Bytes of a file from front to back, unpacked where it is gzip's.
class ByteSource {
 public:
  /// Throws InputError when `path` cannot be read, or is packed and this build has no zlib.
  explicit ByteSource(const std::string& path);
  ~ByteSource();
  ByteSource(ByteSource&&) noexcept;

  /// Fills as much of `to` as there is; fewer bytes: the end. Throws InputError where gzip's checksum or the file is wrong.
  std::size_t read(std::span<std::uint8_t> to);
  const std::string& path() const { return path_; }
  /// That it can hold at most: a packed byte is at most 1032 (deflate), whatever a header inside says.
  std::uint64_t most() const;

 private:
  struct State;
  std::string path_;
  std::unique_ptr<State> state_;
};

}  // namespace elastiform
