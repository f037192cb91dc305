#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/memory_block.hpp"
#include "kernels/view.hpp"

namespace elastiform::cpu {

/// One matrix, packed piece by piece by whichever worker needs a piece first. What one packs the others read: eight panels of 256 rows
/// multiply the same weight, and on AMX packing it takes as long as a panel's product.
class SharedPack {
 public:
  /// Forgets what was packed: a new matrix, or new content. Not while workers use it.
  void begin(ConstView matrix, bool transposed, std::int64_t pieces, std::int64_t words_a_piece);
  /// Two slices of one weight differ in their size alone: a teacher's head and a student's.
  bool holds(ConstView matrix, bool transposed) const;

  /// The packed piece; pack(words) packs it. A piece that another worker is just packing goes into `own` instead of being waited for.
  template <class Word, class Pack>
  const Word* piece(std::int64_t i, Word* own, const Pack& pack) {
    std::atomic<std::uint8_t>& state = states_[static_cast<std::size_t>(i)];
    Word* const shared = words<Word>(i);
    std::uint8_t seen = state.load(std::memory_order_acquire);
    if (seen == kReady) return shared;
    if (seen == kEmpty && state.compare_exchange_strong(seen, kBusy, std::memory_order_acquire)) {
      pack(shared);
      state.store(kReady, std::memory_order_release);
      return shared;
    }
    pack(own);
    return own;
  }
  /// It, or null while it is not packed.
  template <class Word>
  const Word* ready(std::int64_t i) const {
    return states_[static_cast<std::size_t>(i)].load(std::memory_order_acquire) == kReady ? words<Word>(i) : nullptr;
  }

  // More than the last cache keeps; larger matrices are packed by each worker. The same elements in both types.
  static constexpr std::int64_t kMostBytes = 8 << 20, kMostFloatBytes = 2 * kMostBytes;
  static bool fits(std::int64_t pieces, std::int64_t words_a_piece, std::int64_t most_bytes = kMostBytes) {
    return 4 * pieces * words_a_piece <= most_bytes;
  }
  std::int64_t bytes() const { return capacity_; }

 private:
  enum : std::uint8_t { kEmpty, kBusy, kReady };
  template <class Word>  // of four bytes: floats, or pairs of bfloat16
  Word* words(std::int64_t piece) const {
    static_assert(sizeof(Word) == 4);
    return reinterpret_cast<Word*>(memory_.get()) + piece * words_a_piece_;
  }

  ConstView matrix_;
  std::int64_t words_a_piece_ = 0, capacity_ = 0, states_size_ = 0;
  bool transposed_ = false;
  MemoryBlock memory_;
  std::unique_ptr<std::atomic<std::uint8_t>[]> states_;
};

/// The weights of one loop over panels, while they cannot change. One loop at a time: throws std::logic_error for a second one.
class SharedPacks {
 public:
  void open();
  void close();
  /// Null outside a loop, for more matrices than it keeps and for too large ones.
  SharedPack* of(ConstView w, bool transposed, std::int64_t pieces, std::int64_t words_a_piece,
                 std::int64_t most_bytes = SharedPack::kMostBytes);
  std::int64_t bytes() const;
  /// What it can grow to with matrices of up to `bytes` when packed.
  static std::int64_t most_bytes(std::int64_t bytes) { return static_cast<std::int64_t>(kMost) * bytes; }

 private:
  static constexpr std::size_t kMost = 4;  // the feed-forward branch has three: gate, up and down
  std::mutex mutex_;
  SharedPack packs_[kMost];
  std::size_t used_ = 0;
  bool open_ = false;
};

}  // namespace elastiform::cpu
