#include "kernels/scratch_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

constexpr std::uintptr_t kPage = 4096;

/// A file without a name.
int make_file(const std::string& folder, const std::string& where) {
  std::string path = folder + "/elastiform-XXXXXX";
  const int file = ::mkostemp(path.data(), O_CLOEXEC);
  if (file < 0) throw InputError({where, "a folder in which files can be made", folder + ": " + std::strerror(errno), ""});
  ::unlink(path.c_str());
  return file;
}

/// advice for the whole pages inside the range.
void advise(std::byte* memory, std::int64_t bytes, int advice) {
  const auto first = (reinterpret_cast<std::uintptr_t>(memory) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<std::uintptr_t>(memory) + static_cast<std::uintptr_t>(bytes)) / kPage * kPage;
  if (first < end) static_cast<void>(::madvise(reinterpret_cast<void*>(first), end - first, advice));
}

}  // namespace

ScratchFile::ScratchFile(std::string folder, std::string where) : folder_(std::move(folder)), where_(std::move(where)) {
  ::close(make_file(folder_, where_));
}

std::byte* ScratchFile::allocate(std::int64_t bytes) {
  if (bytes_ != 0) throw std::logic_error("ScratchFile: a second block");
  const int file = make_file(folder_, where_);
  const int failed = ::posix_fallocate(file, 0, bytes);
  void* const memory =
      failed != 0 ? MAP_FAILED : ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  const int error = failed != 0 ? failed : errno;
  ::close(file);  // the mapping keeps it
  if (memory == MAP_FAILED)
    throw InputError({where_, "room for " + std::to_string(bytes) + " bytes", folder_ + ": " + std::strerror(error), ""});
  bytes_ = bytes;
  return static_cast<std::byte*>(memory);
}

void ScratchFile::release(std::byte* memory) noexcept {
  ::munmap(memory, static_cast<std::size_t>(bytes_));
  bytes_ = 0;
}

void ScratchFile::copy(std::byte* to, const std::byte* from, std::int64_t bytes) { std::memcpy(to, from, static_cast<std::size_t>(bytes)); }
void ScratchFile::zero(std::byte* memory, std::int64_t bytes) { std::memset(memory, 0, static_cast<std::size_t>(bytes)); }

// The pages of a shared mapping stay in the kernel's cache, or on the disk, when a process drops them.
void ScratchFile::rest(std::byte* memory, std::int64_t bytes) noexcept { advise(memory, bytes, MADV_DONTNEED); }
void ScratchFile::recall(std::byte* memory, std::int64_t bytes) noexcept { advise(memory, bytes, MADV_WILLNEED); }

}  // namespace elastiform
