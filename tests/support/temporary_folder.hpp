#pragma once

#include <string>
#include <string_view>

namespace elastiform {

/// A new empty folder below the system's temporary one, removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  /// Writes a file, makes the folders above it, and returns its path.
  std::string write(std::string_view name, std::string_view content) const;

 private:
  std::string path_;
};

/// The bytes of a file; none where no file can be read.
std::string content_of(const std::string& path);

/// The file holds these bytes from now on.
void overwrite(const std::string& path, std::string_view content);

}  // namespace elastiform
