#pragma once

#include <cstring>

#include "kernels/backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/matrix.hpp"

namespace elastiform {

/// A copy of a matrix in the memory of a backend, with what lies between its rows.
class Placed {
 public:
  Placed(Backend& backend, const Matrix& matrix) : backend_(backend), matrix_(matrix), block_(allocate_block(bytes(), backend.memory())) {
    backend.memory().copy(block_.get(), std::as_const(matrix_).view().data, bytes());
  }

  View view() const {
    const ConstView host = matrix_.view();
    return {block_.get(), host.rows, host.columns, host.ld, host.dtype};
  }
  /// What is there when all that the backend was asked is done. Checks that nothing between the rows has changed.
  Matrix read() const {
    Matrix result = matrix_;
    backend_.memory().copy(result.view().data, block_.get(), bytes());
    CHECK(result.canary_intact());
    return result;
  }

 private:
  std::int64_t bytes() const {
    const ConstView host = matrix_.view();
    return ((host.rows - 1) * host.ld + host.columns) * bytes_of(host.dtype);
  }

  Backend& backend_;
  Matrix matrix_;
  MemoryBlock block_;
};

}  // namespace elastiform
