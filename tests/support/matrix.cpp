#include "tests/support/matrix.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <ostream>

#include "kernels/random.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kMarginElements = 64;  // before the first row and after the last: two vectors of any instruction set
constexpr std::int64_t kAlignment = 64;       // as the arena gives

constexpr std::byte kByteMark{0xa5};  // what numbers that no byte holds, the marks among them, leave in one

// binary16 by arithmetic: sign, 5 bits of exponent from -14 on, 10 bits after the point; below 2^-14 the same steps of 2^-24.
std::uint16_t f16_bits(double value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::abs(value);
  if (std::isnan(value)) return 0x7fff;
  if (magnitude >= 65520) return sign | 0x7c00;
  const int exponent = magnitude < 0x1p-14 ? -14 : std::ilogb(magnitude);
  const double steps = std::nearbyint(std::ldexp(magnitude, 10 - exponent));  // to even; 2048 carries into the exponent
  return static_cast<std::uint16_t>(sign | ((exponent + 14) * 1024 + static_cast<int>(steps)));
}
double f16_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  if (exponent == 31) magnitude = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  return bits >> 15 ? -magnitude : magnitude;
}

/// Codes are whole numbers; the marks, which a byte cannot hold, are two that differ.
std::uint8_t code_of(double value) { return std::isnan(value) ? 0xa5 : value == kOutputMark ? 0x5a : static_cast<std::uint8_t>(value); }

void store(std::byte* to, DType dtype, double value) {
  if (dtype == DType::uint8) {
    const std::uint8_t code = code_of(value);
    std::memcpy(to, &code, sizeof code);
    return;
  }
  if (dtype == DType::bfloat16) {
    const auto bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(to_bf16(static_cast<float>(value))) >> 16);
    std::memcpy(to, &bits, sizeof bits);
    return;
  }
  if (dtype == DType::float16) {
    const std::uint16_t bits = f16_bits(value);
    std::memcpy(to, &bits, sizeof bits);
    return;
  }
  if (dtype == DType::uint8) {
    *to = value >= 0 && value <= 255 ? static_cast<std::byte>(value) : kByteMark;
    return;
  }
  dispatch(dtype, [&]<class T>() {
    const T narrowed = static_cast<T>(value);
    std::memcpy(to, &narrowed, sizeof(T));
  });
}

bool holds(const std::byte* at, DType dtype, double value) {
  std::byte wanted[sizeof(double)];
  store(wanted, dtype, value);
  return std::memcmp(at, wanted, static_cast<std::size_t>(bytes_of(dtype))) == 0;
}

}  // namespace

Matrix::Matrix(std::int64_t rows, std::int64_t columns, std::int64_t ld, DType dtype, double inside, double outside)
    : rows_(rows), columns_(columns), ld_(ld), dtype_(dtype), outside_(outside) {
  const std::int64_t size = bytes_of(dtype);
  memory_.resize(static_cast<std::size_t>((rows * ld + 2 * kMarginElements) * size + kAlignment));
  const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
  const auto misalignment = static_cast<std::int64_t>(address % kAlignment);
  first_ = kMarginElements * size + (kAlignment - misalignment) % kAlignment;
  for (std::int64_t i = -kMarginElements; i < rows * ld + kMarginElements; ++i) store(memory_.data() + first_ + i * size, dtype, outside);
  map([&](double) { return inside; });
}

View Matrix::view() { return {element(0, 0), rows_, columns_, ld_, dtype_}; }
ConstView Matrix::view() const { return {element(0, 0), rows_, columns_, ld_, dtype_}; }

std::byte* Matrix::element(std::int64_t row, std::int64_t column) {
  return memory_.data() + first_ + (row * ld_ + column) * bytes_of(dtype_);
}
const std::byte* Matrix::element(std::int64_t row, std::int64_t column) const {
  return memory_.data() + first_ + (row * ld_ + column) * bytes_of(dtype_);
}

double Matrix::at(std::int64_t row, std::int64_t column) const {
  if (dtype_ == DType::uint8) return static_cast<double>(std::to_integer<unsigned>(*element(row, column)));
  if (dtype_ == DType::bfloat16) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, element(row, column), sizeof bits);
    return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
  }
  if (dtype_ == DType::float16) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, element(row, column), sizeof bits);
    return f16_value(bits);
  }
  if (dtype_ == DType::uint8) return static_cast<double>(*element(row, column));
  return dispatch(dtype_, [&]<class T>() {
    T value;
    std::memcpy(&value, element(row, column), sizeof(T));
    return static_cast<double>(value);
  });
}

void Matrix::set(std::int64_t row, std::int64_t column, double value) { store(element(row, column), dtype_, value); }

bool Matrix::canary_intact() const {
  for (std::int64_t i = -kMarginElements; i < rows_ * ld_ + kMarginElements; ++i) {
    const bool inside = i >= 0 && i < rows_ * ld_ && i % ld_ < columns_;
    if (!inside && !holds(element(0, 0) + i * bytes_of(dtype_), dtype_, outside_)) return false;
  }
  return true;
}

bool Matrix::same_bits(const Matrix& other) const {
  if (rows_ != other.rows_ || columns_ != other.columns_ || dtype_ != other.dtype_) return false;
  for (std::int64_t i = 0; i < rows_; ++i)
    if (std::memcmp(element(i, 0), other.element(i, 0), static_cast<std::size_t>(columns_ * bytes_of(dtype_))) != 0) return false;
  return true;
}

double Matrix::largest_magnitude() const {
  double largest = 0;
  for (std::int64_t i = 0; i < rows_; ++i)
    for (std::int64_t j = 0; j < columns_; ++j)
      if (std::isfinite(at(i, j))) largest = std::max(largest, std::abs(at(i, j)));
  return largest;
}

Matrix normal(std::int64_t rows, std::int64_t columns, std::int64_t ld, DType dtype, std::uint64_t stream) {
  Matrix result(rows, columns, ld, dtype, 0, kInputMark);
  RandomStream random(stream, Purpose::test);
  result.map([&](double) { return static_cast<double>(static_cast<float>(random.normal())); });
  return result;
}

Matrix canary(std::int64_t rows, std::int64_t columns, std::int64_t ld, DType dtype) {
  return {rows, columns, ld, dtype, kInputMark, kOutputMark};
}

Matrix converted(const Matrix& matrix, DType dtype) {
  Matrix result(matrix.rows(), matrix.columns(), matrix.columns(), dtype, 0, kInputMark);
  for (std::int64_t i = 0; i < matrix.rows(); ++i)
    for (std::int64_t j = 0; j < matrix.columns(); ++j) result.set(i, j, matrix.at(i, j));
  return result;
}

float to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if (std::isnan(x)) return x;
  return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

double dot(const Matrix& a, const Matrix& b) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.rows(); ++i)
    for (std::int64_t j = 0; j < a.columns(); ++j) sum += a.at(i, j) * b.at(i, j);
  return sum;
}

std::ostream& operator<<(std::ostream& out, const Matrix& matrix) {
  return out << "matrix [" << matrix.rows() << ',' << matrix.columns() << "] " << name_of(matrix.dtype());
}

}  // namespace elastiform
