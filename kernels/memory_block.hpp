#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace elastiform {

struct FreeMemory {
  void operator()(std::byte* p) const;
};
using MemoryBlock = std::unique_ptr<std::byte, FreeMemory>;

/// Uninitialised memory, 64-byte aligned; empty for 0 bytes. Large blocks ask Linux for pages of 2 MiB: rows of a weight are pages of 4 KiB
/// of their own, and looking those up is dear where a hypervisor translates addresses twice. Throws std::bad_alloc.
MemoryBlock allocate_block(std::int64_t bytes);

/// Blocks allocated since the program began: a steady step takes none.
std::int64_t allocated_blocks();

}  // namespace elastiform
