#include "kernels/cpu/shared_packs.hpp"

#include <algorithm>

namespace elastiform::cpu {

void SharedPack::begin(const void* data, std::int64_t ld, bool transposed, std::int64_t pieces, std::int64_t words_a_piece) {
  data_ = data, ld_ = ld, transposed_ = transposed, pieces_ = pieces, words_a_piece_ = words_a_piece;
  const std::int64_t bytes = 4 * pieces * words_a_piece;
  if (bytes > capacity_) {
    memory_.reset();
    memory_ = allocate_block(bytes);
    capacity_ = bytes;
  }
  if (pieces > states_size_) {
    states_ = std::make_unique<std::atomic<std::uint8_t>[]>(static_cast<std::size_t>(pieces));
    states_size_ = pieces;
  }
  for (std::int64_t i = 0; i < pieces; ++i) states_[static_cast<std::size_t>(i)].store(kEmpty, std::memory_order_relaxed);
}

bool SharedPack::holds(const void* data, std::int64_t ld, bool transposed, std::int64_t pieces, std::int64_t words_a_piece) const {
  return data == data_ && ld == ld_ && transposed == transposed_ && pieces == pieces_ && words_a_piece == words_a_piece_;
}

SharedPack* SharedPacks::of(ConstView w, bool transposed, std::int64_t pieces, std::int64_t words_a_piece) {
  const std::lock_guard lock(mutex_);
  if (!open_ || !SharedPack::fits(pieces, words_a_piece)) return nullptr;
  for (std::size_t i = 0; i < used_; ++i)
    if (packs_[i].holds(w.data, w.ld, transposed, pieces, words_a_piece)) return &packs_[i];
  if (used_ == kMost) return nullptr;
  packs_[used_].begin(w.data, w.ld, transposed, pieces, words_a_piece);
  return &packs_[used_++];
}

std::int64_t SharedPacks::most_bytes(std::int64_t rows, std::int64_t columns) {
  const auto whole = [](std::int64_t n) { return (n + kBf16Depth - 1) / kBf16Depth * kBf16Depth; };
  return static_cast<std::int64_t>(kMost) * std::min(SharedPack::kMostBytes, 2 * whole(rows) * whole(columns));
}

std::int64_t SharedPacks::bytes() const {
  std::int64_t sum = 0;
  for (const SharedPack& pack : packs_) sum += pack.bytes();
  return sum;
}

}  // namespace elastiform::cpu
