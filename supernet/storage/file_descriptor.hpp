#pragma once

#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>

namespace elastiform {

/// Owns an open file of the system; what the files of this folder share.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int file) : file_(file) {}
  FileDescriptor(FileDescriptor&& other) noexcept : file_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~FileDescriptor() { reset(-1); }
  int get() const { return file_; }
  bool is_open() const { return file_ >= 0; }
  int release() { return std::exchange(file_, -1); }

 private:
  void reset(int file) {
    if (file_ >= 0) ::close(file_);
    file_ = file;
  }
  int file_ = -1;
};

/// Throws std::system_error from errno: "cannot DOING PATH: reason".
[[noreturn]] void throw_system_error(std::string_view doing, const std::string& path);

/// Writes every byte or throws std::system_error.
void write_all(int file, std::string_view content, const std::string& path);

}  // namespace elastiform
