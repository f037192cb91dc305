#pragma once

#include <cstdint>
#include <string>

#include "supernet/storage/file_descriptor.hpp"

namespace elastiform {

/// A regular file that stays open while its parts are read, so that all of them come from one file even when another has taken its name.
/// Throws InputError naming the path: unreadable, no regular file, changed in size while it was read.
class UntrustedFile {
 public:
  UntrustedFile(const std::string& path, const char* kind);  // kind: "a safetensors file", for messages
  std::uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  /// Bytes at … at+bytes-1; the caller has compared them with size().
  void read(std::uint64_t at, void* into, std::uint64_t bytes) const;

 private:
  std::string path_;
  FileDescriptor file_;
  std::uint64_t size_ = 0;
};

}  // namespace elastiform
