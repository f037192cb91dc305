#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace elastiform {

struct Unmap {
  std::size_t bytes = 0;
  void operator()(std::uint8_t* memory) const;
};

/// The files of a text in one stretch of address space: a file, or every regular file below a folder that is neither hidden, nor a link,
/// nor empty, sorted by path. A text of up to 1 GiB is read into memory, and nothing that happens to its files later changes it. Of a larger
/// text files from 1 MiB are mapped: they must not be changed, and shortening one ends the process. File i stands at [begin, end) of bytes(),
/// and between two files there may be bytes that belong to none.
class TextFiles {
 public:
  struct File {
    std::string name;  // relative to the folder, with '/'; of a single file its name
    std::int64_t begin = 0, end = 0;
  };
  /// Throws InputError when `path` is missing, cannot be read, or holds no text.
  explicit TextFiles(const std::string& path);

  bool is_folder() const { return is_folder_; }
  const std::vector<File>& files() const { return files_; }
  const std::uint8_t* bytes() const { return memory_.get(); }
  std::int64_t size() const { return size_; }  // bytes of text
  /// A file: of its content. A folder: of every file's name, size and content.
  std::string sha256() const;

 private:
  void load(const std::string& root);

  bool is_folder_ = false;
  std::vector<File> files_;
  std::int64_t size_ = 0;
  std::unique_ptr<std::uint8_t, Unmap> memory_;
};

}  // namespace elastiform
