#include "kernels/memory_block.hpp"

#include <atomic>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace elastiform {

void FreeMemory::operator()(std::byte* p) const { std::free(p); }

namespace {
std::atomic<std::int64_t> blocks{0};
}

std::int64_t allocated_blocks() { return blocks; }

MemoryBlock allocate_block(std::int64_t bytes) {
  constexpr std::int64_t kHugePage = 2 << 20;
  if (bytes < 0) throw std::logic_error("allocate_block: negative size " + std::to_string(bytes));
  if (bytes == 0) return nullptr;
  const std::int64_t alignment = bytes >= 2 * kHugePage ? kHugePage : 64;
  const std::int64_t whole = (bytes + 63) / 64 * 64;
  void* memory = nullptr;
  if (::posix_memalign(&memory, static_cast<std::size_t>(alignment), static_cast<std::size_t>(whole)) != 0) throw std::bad_alloc();
#ifdef __linux__
  // Whole huge pages only, so that no more than the block becomes resident. A kernel without them refuses, and nothing is lost.
  if (alignment == kHugePage) static_cast<void>(::madvise(memory, static_cast<std::size_t>(bytes / kHugePage * kHugePage), MADV_HUGEPAGE));
#endif
  ++blocks;
  return MemoryBlock(static_cast<std::byte*>(memory));
}

}  // namespace elastiform
