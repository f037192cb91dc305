#pragma once

#include <functional>
#include <vector>

#include "kernels/backend.hpp"
#include "tests/support/cpu.hpp"
#include "tests/support/matrix.hpp"
#include "tests/support/tested_backend.hpp"

namespace elastiform {

/// Where the matrices of a case live: in which element type, and with how many foreign elements after each row.
struct Memory {
  DType dtype = DType::float64;
  std::int64_t padding = 0;
  bool rounds_operands = false;  // to bf16, for the reference of a backend that does so itself
  bool stores_operands = false;  // in bfloat16

  /// Normal values, NaN outside.
  Matrix input(std::int64_t rows, std::int64_t columns, std::uint64_t stream) const {
    return normal(rows, columns, columns + padding, dtype, stream);
  }
  /// Values of input() that a product multiplies.
  Matrix operand(std::int64_t rows, std::int64_t columns, std::uint64_t stream) const;
  /// NaN inside, so what is not written shows; a finite mark outside.
  Matrix output(std::int64_t rows, std::int64_t columns) const { return canary(rows, columns, columns + padding, dtype); }
  /// The output of an operation that a product multiplies next.
  Matrix operand_output(std::int64_t rows, std::int64_t columns) const { return canary(rows, columns, columns + padding, operand_dtype()); }
  /// The values of input(), the mark of output(): for what is read and written.
  Matrix in_out(std::int64_t rows, std::int64_t columns, std::uint64_t stream) const;
  DType operand_dtype() const { return stores_operands ? DType::bfloat16 : dtype; }
};

/// Builds its operands in `memory`, runs an operation on the backend, returns everything that was written.
using Case = std::function<std::vector<Matrix>(Backend&, const Memory&)>;

/// The tested backend agrees with the reference within tolerance(operation, float32); the bits of both do not depend on how far rows are
/// apart (a slice equals its dense copy), those of the tested one not on the arrangement of its work; nothing outside a view is read or
/// written. Approximate arrangements agree within the tolerance alone.
void check_conformance(const char* operation, const Case& run);

/// The same in bf16, where it can be had: `operation` names a row of tolerances, the reference multiplies rounded operands.
void check_bf16_conformance(const char* operation, const Case& run);

/// Operands that are stored in bfloat16 give the bits of float32 operands of the same values; results in bfloat16 are the nearest ones to
/// those in float32.
void check_stored_operands(const Case& run);

/// The same matrices bit for bit, and nothing written beside them.
void check_same_bits(const std::vector<Matrix>& actual, const std::vector<Matrix>& expected);

/// For the initializer-free return of move-only lists.
template <class... M>
std::vector<Matrix> written(M... matrices) {
  std::vector<Matrix> result;
  (result.push_back(std::move(matrices)), ...);
  return result;
}

}  // namespace elastiform
