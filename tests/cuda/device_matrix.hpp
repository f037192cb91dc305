#pragma once

#include <cstring>

#include "kernels/cuda/runtime.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/matrix.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// A copy of a matrix in device memory, `shift` elements after a multiple of 256 bytes. What lies between its rows is copied too, what lies
/// before and after is NaN: a stray read shows in every result it touches, a stray write in read().
class DeviceMatrix {
 public:
  explicit DeviceMatrix(const Matrix& matrix, std::int64_t shift = 0)
      : matrix_(matrix), first_(kMargin + shift * bytes_of(matrix.dtype())), bytes_(span_bytes()), memory_(allocate_on_device(size())) {
    copy_async(nullptr, data(), bytes_, matrix_.view().data, bytes_, bytes_, 1);
  }
  DeviceMatrix(const DeviceMatrix&) = delete;
  DeviceMatrix& operator=(const DeviceMatrix&) = delete;
  ~DeviceMatrix() { free_on_device(memory_); }

  View view() const { return {data(), matrix_.rows(), matrix_.columns(), ld(), matrix_.dtype()}; }

  /// What is there now. Checks that nothing around the matrix has changed.
  Matrix read() const {
    std::vector<std::byte> all(static_cast<std::size_t>(size()));
    copy_async(nullptr, all.data(), size(), memory_, size(), size(), 1);
    synchronize(nullptr);
    bool margins_intact = true;
    for (std::int64_t i = 0; i < size(); ++i)
      if (i < first_ || i >= first_ + bytes_) margins_intact = margins_intact && all[static_cast<std::size_t>(i)] == std::byte{0xff};
    CHECK(margins_intact);
    Matrix result = matrix_;
    std::memcpy(result.view().data, all.data() + first_, static_cast<std::size_t>(bytes_));
    CHECK(result.canary_intact());
    return result;
  }

 private:
  static constexpr std::int64_t kMargin = 256;

  std::int64_t ld() const { return matrix_.view().ld; }
  std::int64_t span_bytes() const { return ((matrix_.rows() - 1) * ld() + matrix_.columns()) * bytes_of(matrix_.dtype()); }
  std::int64_t size() const { return first_ + bytes_ + kMargin; }
  std::byte* data() const { return static_cast<std::byte*>(memory_) + first_; }

  Matrix matrix_;
  std::int64_t first_, bytes_;
  void* memory_;
};

}  // namespace elastiform::ELASTIFORM_GPU
