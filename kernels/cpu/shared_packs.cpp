#include "kernels/cpu/shared_packs.hpp"

#include <algorithm>
#include <stdexcept>

namespace elastiform::cpu {

void SharedPack::begin(ConstView matrix, bool transposed, std::int64_t pieces, std::int64_t words_a_piece) {
  matrix_ = matrix, transposed_ = transposed, words_a_piece_ = words_a_piece;
  const std::int64_t bytes = 4 * pieces * words_a_piece;
  if (bytes > capacity_) {
    memory_.reset();
    capacity_ = 0;  // should the next line throw
    memory_ = allocate_block(bytes);
    capacity_ = bytes;
  }
  if (pieces > states_size_) {
    states_size_ = 0;
    states_ = std::make_unique<std::atomic<std::uint8_t>[]>(static_cast<std::size_t>(pieces));
    states_size_ = pieces;
  }
  for (std::int64_t i = 0; i < pieces; ++i) states_[static_cast<std::size_t>(i)].store(kEmpty, std::memory_order_relaxed);
}

bool SharedPack::holds(ConstView matrix, bool transposed) const {
  return matrix.data == matrix_.data && matrix.rows == matrix_.rows && matrix.columns == matrix_.columns && matrix.ld == matrix_.ld &&
         matrix.dtype == matrix_.dtype && transposed == transposed_;
}

void SharedPacks::open() {
  const std::lock_guard lock(mutex_);
  if (open_) throw std::logic_error("CpuBackend: a loop over panels began during another one; it has one caller at a time");
  open_ = true;
  used_ = 0;
}

void SharedPacks::close() {
  const std::lock_guard lock(mutex_);
  open_ = false;
}

SharedPack* SharedPacks::of(ConstView w, bool transposed, std::int64_t pieces, std::int64_t words_a_piece, std::int64_t most_bytes) {
  const std::lock_guard lock(mutex_);
  if (!open_ || !SharedPack::fits(pieces, words_a_piece, most_bytes)) return nullptr;
  for (std::size_t i = 0; i < used_; ++i)
    if (packs_[i].holds(w, transposed)) return &packs_[i];
  if (used_ == kMost) return nullptr;
  packs_[used_].begin(w, transposed, pieces, words_a_piece);
  return &packs_[used_++];
}

std::int64_t SharedPacks::bytes() const {
  std::int64_t sum = 0;
  for (const SharedPack& pack : packs_) sum += pack.bytes();
  return sum;
}

}  // namespace elastiform::cpu
