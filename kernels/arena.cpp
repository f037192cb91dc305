#include "kernels/arena.hpp"

#include <stdexcept>
#include <string>

namespace elastiform {
namespace {

std::int64_t round_up(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace

Arena::Arena(std::int64_t bytes, MemorySpace& memory) : space_(&memory) {
  if (bytes < 0) throw std::logic_error("Arena: negative size " + std::to_string(bytes));
  capacity_ = round_up(bytes, kAlignment);
  data_ = allocate_block(capacity_, memory);
}

View Arena::matrix(std::int64_t rows, std::int64_t columns, DType dtype) {
  const std::int64_t bytes = bytes_for(rows, columns, dtype);
  if (bytes > capacity_ - used_)
    throw std::logic_error("Arena: " + std::to_string(bytes) + " B wanted for " + std::to_string(rows) + "x" + std::to_string(columns) +
                           ", " + std::to_string(capacity_ - used_) + " B of " + std::to_string(capacity_) + " B left");
  std::byte* data = data_.get() + used_;
  used_ += bytes;
  if (used_ > peak_) peak_ = used_;
  return {data, rows, columns, padded_ld(rows, columns), dtype};
}

void Arena::release(std::int64_t mark) {
  if (mark < 0 || mark > used_) throw std::logic_error("Arena: released to a mark above what is used");
  used_ = mark;
}

std::int64_t Arena::bytes_for(std::int64_t rows, std::int64_t columns, DType dtype) {
  return round_up(rows * padded_ld(rows, columns) * bytes_of(dtype), kAlignment);
}

Arena* GrowingArena::of_at_least(std::int64_t bytes) {
  if (bytes == 0) return nullptr;
  if (arena_ && arena_->used() > 0) throw std::logic_error("GrowingArena: in use");
  if (!arena_ || arena_->capacity() < bytes) {
    arena_.reset();  // first: a scratch file has one block
    arena_.emplace(bytes, memory_);
  }
  return &*arena_;
}

std::int64_t padded_ld(std::int64_t rows, std::int64_t columns) {
  if (rows <= 1) return columns;
  const std::int64_t ld = round_up(columns, 32);
  return ld % 512 == 0 ? ld + 32 : ld;
}

}  // namespace elastiform
