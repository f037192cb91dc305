#pragma once

#include <string>

#include "kernels/memory_block.hpp"

namespace elastiform {

/// Memory in a file of a folder that has no name and vanishes with the process, mapped into its addresses: for what waits so long that it
/// may leave main memory. rest() gives back the process's pages, the kernel writes them when it wants; recall() begins to read them.
class ScratchFile final : public MemorySpace {
 public:
  /// Throws InputError, `where` naming what asked for it, for a folder in which no file can be made.
  ScratchFile(std::string folder, std::string where);
  std::string_view name() const override { return "a file outside of memory"; }
  /// One block a file. Takes its room on the disk at once: InputError when there is too little, instead of a signal later.
  std::byte* allocate(std::int64_t bytes) override;
  void release(std::byte* memory) noexcept override;
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override;
  void zero(std::byte* memory, std::int64_t bytes) override;
  void rest(std::byte* memory, std::int64_t bytes) noexcept override;
  void recall(std::byte* memory, std::int64_t bytes) noexcept override;

 private:
  std::string folder_, where_;
  std::int64_t bytes_ = 0;  // of the block
};

}  // namespace elastiform
