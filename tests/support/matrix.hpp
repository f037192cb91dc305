#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <limits>
#include <vector>

#include "kernels/view.hpp"

namespace elastiform {

/// What stands outside an output: a NaN mark would pass, because NaN input times anything written there is NaN again.
constexpr double kOutputMark = -98304.5;
/// What stands outside an input, and inside an output before it is written: a stray read shows in every result it touches.
constexpr double kInputMark = std::numeric_limits<double>::quiet_NaN();

/// A matrix with memory of its own: `ld` elements from row to row, and a margin of known content between, before and after the rows.
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t columns, std::int64_t ld, DType dtype, double inside, double outside);

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  DType dtype() const { return dtype_; }
  View view();
  ConstView view() const;

  double at(std::int64_t row, std::int64_t column) const;
  void set(std::int64_t row, std::int64_t column, double value);
  /// Replaces every element e by f(e).
  template <class F>
  void map(F&& f) {
    for (std::int64_t i = 0; i < rows_; ++i)
      for (std::int64_t j = 0; j < columns_; ++j) set(i, j, f(at(i, j)));
  }

  /// Nothing outside the rows × columns has changed, bit by bit, since construction.
  bool canary_intact() const;
  /// The elements, margins aside, are the same bits: NaN equals itself, and 0 differs from -0.
  bool same_bits(const Matrix& other) const;
  double largest_magnitude() const;

 private:
  std::byte* element(std::int64_t row, std::int64_t column);
  const std::byte* element(std::int64_t row, std::int64_t column) const;

  std::int64_t rows_, columns_, ld_;
  DType dtype_;
  double outside_;
  std::vector<std::byte> memory_;
  std::int64_t first_;  // byte of element (0, 0)
};

/// Standard normal values of RandomStream(stream, Purpose::test), rounded to float32 so that every element type holds the same ones.
/// NaN outside.
Matrix normal(std::int64_t rows, std::int64_t columns, std::int64_t ld, DType dtype, std::uint64_t stream);
/// An output to be: NaN inside, a finite mark outside.
Matrix canary(std::int64_t rows, std::int64_t columns, std::int64_t ld, DType dtype);
/// The same elements in another element type, tight, NaN outside.
Matrix converted(const Matrix& matrix, DType dtype);
/// The nearest bf16 (a float32 with 8 bits of precision), ties to even.
float to_bf16(float x);
/// Σ a ∘ b.
double dot(const Matrix& a, const Matrix& b);

std::ostream& operator<<(std::ostream& out, const Matrix& matrix);

}  // namespace elastiform
