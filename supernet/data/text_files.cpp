#include "supernet/data/text_files.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "kernels/errors.hpp"
#include "supernet/sha256.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

// Up to here a text is read, so that whatever happens to its files afterwards, a run keeps its text. A mapped file shows what is written to
// it, and touching what was cut off it ends the process with SIGBUS.
constexpr std::int64_t kReadUpTo = std::int64_t{1} << 30;
// In a larger text a mapping costs a page of alignment and one of the 65,530 mappings that Linux allows a process: small files are read.
constexpr std::int64_t kMapFrom = 1 << 20;
// Half of x86-64's address space; sparse files may claim more than can be added up.
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 46;

[[noreturn]] void refuse(const std::string& path, std::string found, std::string remedy = "") {
  throw InputError({.where = path, .expected = "", .found = std::move(found), .remedy = std::move(remedy)});
}
[[noreturn]] void refuse_system(const std::string& path, const std::string& what, int error) {
  refuse(path, what + ": " + std::generic_category().message(error));
}

class OpenFile {
 public:
  // Not blocking: a pipe that took the file's place would otherwise wait for a writer forever.
  explicit OpenFile(const std::string& path) : handle_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (handle_ < 0) refuse_system(path, "cannot be opened", errno);
  }
  ~OpenFile() { ::close(handle_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int handle() const { return handle_; }

 private:
  int handle_;
};

bool hidden(const fs::path& path) { return path.filename().native().front() == '.'; }

std::vector<TextFiles::File> list_folder(const std::string& folder) {
  std::vector<TextFiles::File> files;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  for (const fs::recursive_directory_iterator end; !error && entry != end; entry.increment(error)) {
    const fs::file_status status = entry->symlink_status(error);
    if (error) break;
    if (hidden(entry->path())) {
      if (fs::is_directory(status)) entry.disable_recursion_pending();
      continue;
    }
    if (!fs::is_regular_file(status)) continue;
    const auto bytes = static_cast<std::int64_t>(entry->file_size(error));
    if (error) break;
    if (bytes > 0) files.push_back({.name = entry->path().lexically_relative(folder).generic_string(), .begin = 0, .end = bytes});
  }
  if (error) refuse(folder, "the folder cannot be read: " + error.message());
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return files;
}

void read_all(const std::string& path, int handle, std::uint8_t* into, std::int64_t bytes) {
  for (std::int64_t done = 0; done < bytes;) {
    const ssize_t got = ::pread(handle, into + done, static_cast<std::size_t>(bytes - done), done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse_system(path, "cannot be read", errno);
    if (got == 0) refuse(path, "became shorter while it was read");
    done += got;
  }
}

}  // namespace

void Unmap::operator()(std::uint8_t* memory) const { ::munmap(memory, bytes); }

TextFiles::TextFiles(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) refuse(path, "no such file or folder");
  if (error) refuse(path, "cannot be read: " + error.message());
  is_folder_ = fs::is_directory(status);
  if (is_folder_) {
    files_ = list_folder(path);
    if (files_.empty()) refuse(path, "the folder holds no text", "links, hidden and empty files are left out");
  } else {
    if (!fs::is_regular_file(status)) refuse(path, "neither a file nor a folder");
    const auto bytes = static_cast<std::int64_t>(fs::file_size(path, error));
    if (error) refuse(path, "cannot be read: " + error.message());
    if (bytes == 0) refuse(path, "the file is empty");
    files_.push_back({.name = fs::path(path).filename().generic_string(), .begin = 0, .end = bytes});
  }
  load(path);
}

void TextFiles::load(const std::string& root) {
  const std::int64_t page = ::sysconf(_SC_PAGESIZE);
  for (const File& file : files_) {
    if (file.end > kMaxBytes - size_) refuse(root, "more than 64 TiB of text");
    size_ += file.end;
  }
  const std::int64_t map_from = size_ <= kReadUpTo ? kReadUpTo + 1 : kMapFrom;
  std::int64_t total = 0;
  for (File& file : files_) {
    const std::int64_t bytes = file.end;
    const bool mapped = bytes >= map_from;
    if (mapped) total = (total + page - 1) / page * page;
    file.begin = total;
    total = file.end = file.begin + bytes;
    // The next file may not share a page with a mapping.
    if (mapped) total = (total + page - 1) / page * page;
  }
  const auto reserved = static_cast<std::size_t>(total);
  void* memory = ::mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) refuse_system(root, "no address space for " + std::to_string(total >> 20) + " MiB", errno);
  memory_ = {static_cast<std::uint8_t*>(memory), Unmap{reserved}};

  for (const File& file : files_) {
    const std::string path = is_folder_ ? (fs::path(root) / file.name).string() : root;
    const OpenFile open(path);
    struct stat now {};
    if (::fstat(open.handle(), &now) != 0) refuse_system(path, "cannot be read", errno);
    const std::int64_t bytes = file.end - file.begin;
    if (!S_ISREG(now.st_mode) || now.st_size != bytes) refuse(path, "changed while it was opened");
    std::uint8_t* place = memory_.get() + file.begin;
    if (bytes < map_from) read_all(path, open.handle(), place, bytes);
    else if (::mmap(place, static_cast<std::size_t>(bytes), PROT_READ, MAP_PRIVATE | MAP_FIXED, open.handle(), 0) == MAP_FAILED)
      refuse_system(path, "cannot be mapped", errno);
  }
}

std::string TextFiles::sha256() const {
  Sha256 hash;
  for (const File& file : files_) {
    const std::int64_t length = file.end - file.begin;
    // The zero byte, which no name contains, keeps "a" + "bc" apart from "ab" + "c".
    if (is_folder_) hash.add(file.name + '\0' + std::to_string(length) + '\0');
    hash.add(bytes() + file.begin, static_cast<std::size_t>(length));
  }
  return hash.hex();
}

}  // namespace elastiform
