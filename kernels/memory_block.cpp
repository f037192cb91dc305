#include "kernels/memory_block.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace elastiform {
namespace {

std::atomic<std::int64_t> blocks{0};

class HostMemory final : public MemorySpace {
 public:
  std::string_view name() const override { return "host"; }
  std::byte* allocate(std::int64_t bytes) override {
    constexpr std::int64_t kHugePage = 2 << 20;
    const std::int64_t alignment = bytes >= 2 * kHugePage ? kHugePage : 64;
    const std::int64_t whole = (bytes + 63) / 64 * 64;
    void* memory = nullptr;
    if (::posix_memalign(&memory, static_cast<std::size_t>(alignment), static_cast<std::size_t>(whole)) != 0) throw std::bad_alloc();
#ifdef __linux__
    // Whole huge pages only, so that no more than the block becomes resident. A kernel without them refuses, and nothing is lost.
    if (alignment == kHugePage)
      static_cast<void>(::madvise(memory, static_cast<std::size_t>(bytes / kHugePage * kHugePage), MADV_HUGEPAGE));
#endif
    return static_cast<std::byte*>(memory);
  }
  void release(std::byte* memory) noexcept override { std::free(memory); }
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override { std::memcpy(to, from, static_cast<std::size_t>(bytes)); }
  void zero(std::byte* memory, std::int64_t bytes) override { std::memset(memory, 0, static_cast<std::size_t>(bytes)); }
};

}  // namespace

MemorySpace& host_memory() {
  static HostMemory memory;
  return memory;
}

std::int64_t allocated_blocks() { return blocks; }

MemoryBlock allocate_block(std::int64_t bytes, MemorySpace& space) {
  if (bytes < 0) throw std::logic_error("allocate_block: negative size " + std::to_string(bytes));
  if (bytes == 0) return nullptr;
  MemoryBlock block(space.allocate(bytes), {&space});
  ++blocks;
  return block;
}

}  // namespace elastiform
