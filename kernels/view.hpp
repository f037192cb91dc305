#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "kernels/errors.hpp"

namespace elastiform {

/// float32 and float64 are what a backend computes in; bfloat16 and float16 are how one stores what its products will round anyway;
/// uint8 are codes of numbers (kernels/ops/dynamic_map.hpp).
enum class DType : std::uint8_t { float32, float64, bfloat16, float16, uint8 };

constexpr std::int64_t bytes_of(DType dtype) {
  return dtype == DType::float32 ? 4 : dtype == DType::float64 ? 8 : dtype == DType::uint8 ? 1 : 2;
}
std::string_view name_of(DType dtype);

/// The upper half of a float32.
struct BFloat16 {
  std::uint16_t bits = 0;
};
/// IEEE 754 binary16.
struct Float16 {
  std::uint16_t bits = 0;
};

template <class T>
constexpr DType dtype_of = std::is_same_v<std::remove_const_t<T>, float>          ? DType::float32
                           : std::is_same_v<std::remove_const_t<T>, BFloat16>     ? DType::bfloat16
                           : std::is_same_v<std::remove_const_t<T>, Float16>      ? DType::float16
                           : std::is_same_v<std::remove_const_t<T>, std::uint8_t> ? DType::uint8
                                                                                  : DType::float64;

/// Calls body.template operator()<T>() with the element type of `dtype`, one that a backend computes in.
template <class Body>
decltype(auto) dispatch(DType dtype, Body&& body) {
  if (bytes_of(dtype) < 4) throw ShapeError(std::string(name_of(dtype)) + " where numbers are computed with");
  return dtype == DType::float32 ? body.template operator()<float>() : body.template operator()<double>();
}

/// Some consecutive rows of a matrix; `panel` is their number in the sequence of panels that Backend::panels() makes.
struct Rows {
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t panel = 0;
};

/// A matrix [rows, columns] somewhere in memory, `ld` elements from row to row; a vector is one row. Borrows, never owns.
/// A slice of a shared weight is an ordinary view: its ld is the supernet's.
template <class Byte>
struct BasicView {
  Byte* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t ld = 0;
  DType dtype = DType::float32;

  constexpr BasicView() = default;
  constexpr BasicView(Byte* data_, std::int64_t rows_, std::int64_t columns_, std::int64_t ld_, DType dtype_)
      : data(data_), rows(rows_), columns(columns_), ld(ld_), dtype(dtype_) {}
  /// A view that may write converts to one that may not.
  // Version 14 of clang-format does not know requires-clauses.
  // clang-format off
  template <class Other>
    requires(std::is_const_v<Byte> && !std::is_const_v<Other>)
  constexpr BasicView(const BasicView<Other>& other)  // NOLINT(google-explicit-constructor)
      : data(other.data), rows(other.rows), columns(other.columns), ld(other.ld), dtype(other.dtype) {}
  // clang-format on

  bool empty() const { return data == nullptr; }
  std::int64_t size() const { return rows * columns; }

  template <class T>
  using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;

  /// Pointer to row `i`; T must be the element type.
  template <class T>
  Element<T>* row(std::int64_t i) const {
    if (dtype != dtype_of<T>) throw ShapeError("view read as another element type");
    return reinterpret_cast<Element<T>*>(data) + i * ld;
  }

  BasicView operator[](Rows r) const { return empty() ? *this : row_range(r.first, r.count); }
  BasicView row_range(std::int64_t first, std::int64_t count) const {
    return {data + first * ld * bytes_of(dtype), count, columns, ld, dtype};
  }
  BasicView column_range(std::int64_t first, std::int64_t count) const { return {data + first * bytes_of(dtype), rows, count, ld, dtype}; }
  /// The first `r` rows and `c` columns.
  BasicView slice(std::int64_t r, std::int64_t c) const { return {data, r, c, ld, dtype}; }
};

using View = BasicView<std::byte>;
using ConstView = BasicView<const std::byte>;

template <class T>
View view_of(T* data, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
  return {reinterpret_cast<std::byte*>(data), rows, columns, ld, dtype_of<T>};
}
template <class T>
ConstView view_of(const T* data, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
  return {reinterpret_cast<const std::byte*>(data), rows, columns, ld, dtype_of<T>};
}

}  // namespace elastiform
