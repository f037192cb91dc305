#include "kernels/mapped_file.hpp"

#include <sys/mman.h>
#ifdef __linux__
#include <sys/vfs.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>

namespace elastiform {
namespace {

/// Whether the file's bytes cannot go while it is open: where other machines have them, a replaced file may be gone at once.
bool is_here(int file) {
#ifdef __linux__
  // NFS, SMB in three ages, FUSE, Lustre, 9P, AFS, Ceph, GPFS (statfs(2) has their numbers).
  constexpr std::array<std::uint32_t, 10> kElsewhere{0x6969,     0x517B,     0xFF534D42, 0xFE534D42, 0x65735546,
                                                     0x0BD00BD0, 0x01021997, 0x5346414F, 0x00C36400, 0x47504653};
  struct statfs system {};
  if (::fstatfs(file, &system) != 0) return false;
  return std::find(kElsewhere.begin(), kElsewhere.end(), static_cast<std::uint32_t>(system.f_type)) == kElsewhere.end();
#else
  static_cast<void>(file);
  return false;
#endif
}

/// Knows how much to unmap of each block.
class MappedFiles final : public MemorySpace {
 public:
  std::byte* map(int file, std::int64_t from, std::int64_t to) {
    const auto page = static_cast<std::int64_t>(::sysconf(_SC_PAGESIZE));
    const std::int64_t first = from / page * page;  // a mapping begins at a whole page
    const auto bytes = static_cast<std::size_t>(to - first);
    void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, static_cast<off_t>(first));
    if (memory == MAP_FAILED) return nullptr;
    std::byte* const block = static_cast<std::byte*>(memory) + (from - first);
    try {
      const std::scoped_lock lock(mutex_);
      mappings_[block] = {memory, bytes};
    } catch (...) {
      ::munmap(memory, bytes);
      throw;
    }
    return block;
  }

  std::string_view name() const override { return "mapped file"; }
  std::byte* allocate(std::int64_t) override { throw std::logic_error("MappedFiles: a block that is no file's"); }
  void release(std::byte* block) noexcept override {
    const std::scoped_lock lock(mutex_);
    const auto found = mappings_.find(block);
    ::munmap(found->second.memory, found->second.bytes);
    mappings_.erase(found);
  }
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override { std::memcpy(to, from, static_cast<std::size_t>(bytes)); }
  void zero(std::byte* memory, std::int64_t bytes) override { std::memset(memory, 0, static_cast<std::size_t>(bytes)); }

 private:
  struct Mapping {
    void* memory = nullptr;
    std::size_t bytes = 0;
  };
  std::mutex mutex_;
  std::map<std::byte*, Mapping> mappings_;
};

}  // namespace

MemoryBlock map_file(int file, std::int64_t from, std::int64_t to) {
  if (from < 0 || to <= from) throw std::logic_error("map_file: no such range");
  static MappedFiles files;
  if (!is_here(file)) return nullptr;
  return {files.map(file, from, to), {&files}};
}

}  // namespace elastiform
