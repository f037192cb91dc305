#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/memory_block.hpp"
#include "kernels/view.hpp"

namespace elastiform {

/// One block of 64-byte aligned memory, of the host or a device, handed out as a stack. Nothing is freed singly, so peak use is one number that
/// ActivationPlan predicts, and asserts, to the byte.
class Arena {
 public:
  // A cache line and an AVX-512 register: rows of padded matrices then never split a line between two workers.
  static constexpr std::int64_t kAlignment = 64;

  explicit Arena(std::int64_t bytes, MemorySpace& memory = host_memory());
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// A fresh matrix of undefined content. Leading dimension as padded_ld() says; every allocation is a multiple of 64 bytes.
  /// Throws std::logic_error when the plan was too small: a bug of ours.
  View matrix(std::int64_t rows, std::int64_t columns, DType dtype);

  std::int64_t mark() const { return used_; }
  /// Gives back everything that was taken since mark() returned `mark`.
  void release(std::int64_t mark);

  std::int64_t used() const { return used_; }
  std::int64_t peak() const { return peak_; }
  std::int64_t capacity() const { return capacity_; }
  void reset_peak() { peak_ = used_; }

  MemorySpace& space() const { return *space_; }

  /// Bytes that matrix(rows, columns, dtype) takes.
  static std::int64_t bytes_for(std::int64_t rows, std::int64_t columns, DType dtype);

 private:
  MemorySpace* space_;
  MemoryBlock data_;
  std::int64_t capacity_ = 0, used_ = 0, peak_ = 0;
};

/// An arena that is made anew when more is asked of it than it has.
class GrowingArena {
 public:
  explicit GrowingArena(MemorySpace& memory) : memory_(memory) {}
  /// Nothing may be in use of the one before. Null for 0 bytes: nothing is made for them.
  Arena* of_at_least(std::int64_t bytes);

 private:
  MemorySpace& memory_;
  std::optional<Arena> arena_;
};

/// Gives back what was taken from `arena` during its life.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  std::int64_t mark_;
};

/// Leading dimension of a matrix of that many columns: a multiple of 32 elements, and never of 512, where rows would share cache
/// sets. A single row stays tight.
std::int64_t padded_ld(std::int64_t rows, std::int64_t columns);

}  // namespace elastiform
