#pragma once

#include <cstdint>
#include <string>

#include "kernels/errors.hpp"
#include "kernels/view.hpp"

namespace elastiform {

/// The sentences of the check() functions. Each names the operation, both fields and both sizes.
class Checks {
 public:
  explicit Checks(const char* operation) : operation_(operation) {}

  void same(const char* field_a, std::int64_t a, const char* field_b, std::int64_t b) const {
    if (a != b) fail(std::string(field_a) + " is " + std::to_string(a) + ", but " + field_b + " is " + std::to_string(b));
  }
  void at_least(const char* field, std::int64_t value, const char* bound_name, std::int64_t bound) const {
    if (value < bound)
      fail(std::string(field) + " is " + std::to_string(value) + ", less than " + bound_name + ", " + std::to_string(bound));
  }
  void multiple(const char* field, std::int64_t value, const char* unit_name, std::int64_t unit) const {
    if (unit < 1 || value % unit != 0)
      fail(std::string(field) + " is " + std::to_string(value) + ", no multiple of " + unit_name + ", " + std::to_string(unit));
  }

  /// A view that must be there: a pointer, sizes of at least 0 and rows that do not overlap.
  void present(const char* field, ConstView view) const {
    if (view.empty()) fail(std::string(field) + " is missing");
    if (view.rows < 0 || view.columns < 0)
      fail(std::string(field) + " has a negative size, " + std::to_string(view.rows) + "x" + std::to_string(view.columns));
    if (view.rows > 1 && view.ld < view.columns)
      fail(std::string(field) + ".ld is " + std::to_string(view.ld) + ", less than " + field + ".columns, " + std::to_string(view.columns));
  }
  /// A present view of the size of another.
  void like(const char* field, ConstView view, const char* other_field, ConstView other) const {
    present(field, view);
    if (view.rows != other.rows || view.columns != other.columns)
      fail(std::string(field) + " is " + size(view) + ", but " + other_field + " is " + size(other));
  }
  /// The same, and of the same element type.
  void alike(const char* field, ConstView view, const char* other_field, ConstView other) const {
    like(field, view, other_field, other);
    if (view.dtype != other.dtype)
      fail(std::string(field) + " is " + std::string(name_of(view.dtype)) + ", but " + other_field + " is " +
           std::string(name_of(other.dtype)));
  }
  /// A present view [1, columns].
  void vector(const char* field, ConstView view, const char* length_name, std::int64_t length) const {
    present(field, view);
    if (view.rows != 1 || view.columns != length)
      fail(std::string(field) + " is " + size(view) + ", but " + length_name + " is " + std::to_string(length));
  }
  [[noreturn]] void fail(const std::string& what) const { throw ShapeError(std::string(operation_) + ": " + what); }

 private:
  static std::string size(ConstView view) { return std::to_string(view.rows) + "x" + std::to_string(view.columns); }

  const char* operation_;
};

}  // namespace elastiform
