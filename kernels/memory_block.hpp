#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace elastiform {

/// Where bytes live: the host's memory, or a device's. All of it zero() and copy() reach, host code reads and writes only the host's.
class MemorySpace {
 public:
  virtual ~MemorySpace() = default;
  virtual std::string_view name() const = 0;
  /// bytes > 0, uninitialised, 64-byte aligned. Throws std::bad_alloc, or what a device says of its own.
  virtual std::byte* allocate(std::int64_t bytes) = 0;
  virtual void release(std::byte* memory) noexcept = 0;
  /// From and to this space or the host's, after all that was asked of the device before; both return when it is done.
  virtual void copy(std::byte* to, const std::byte* from, std::int64_t bytes) = 0;
  virtual void zero(std::byte* memory, std::int64_t bytes) = 0;
  /// Nobody reads these bytes for a while, and soon somebody does: where memory is not equally near all the time.
  virtual void rest(std::byte* /*memory*/, std::int64_t /*bytes*/) noexcept {}
  virtual void recall(std::byte* /*memory*/, std::int64_t /*bytes*/) noexcept {}
};

/// The host's. Large blocks ask Linux for pages of 2 MiB: rows of a weight are pages of 4 KiB of their own, and looking those up is dear
/// where a hypervisor translates addresses twice.
MemorySpace& host_memory();

struct FreeMemory {
  MemorySpace* space = nullptr;
  void operator()(std::byte* p) const { space->release(p); }
};
using MemoryBlock = std::unique_ptr<std::byte, FreeMemory>;

/// Uninitialised memory; empty for 0 bytes.
MemoryBlock allocate_block(std::int64_t bytes, MemorySpace& space = host_memory());

/// Blocks allocated since the program began: a steady step takes none.
std::int64_t allocated_blocks();

}  // namespace elastiform
