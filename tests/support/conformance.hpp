#pragma once

#include <functional>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/parallel.hpp"
#include "tests/support/matrix.hpp"

namespace elastiform {

/// Where the matrices of a case live: in which element type, and with how many foreign elements after each row.
struct Memory {
  DType dtype = DType::float64;
  std::int64_t padding = 0;

  /// Normal values, NaN outside.
  Matrix input(std::int64_t rows, std::int64_t columns, std::uint64_t stream) const {
    return normal(rows, columns, columns + padding, dtype, stream);
  }
  /// NaN inside, so what is not written shows; a finite mark outside.
  Matrix output(std::int64_t rows, std::int64_t columns) const { return canary(rows, columns, columns + padding, dtype); }
  /// The values of input(), the mark of output(): for what is read and written.
  Matrix in_out(std::int64_t rows, std::int64_t columns, std::uint64_t stream) const;
};

/// Builds its operands in `memory`, runs an operation on the backend, returns everything that was written.
using Case = std::function<std::vector<Matrix>(Backend&, const Memory&)>;

/// The CPU agrees with the reference within tolerance(operation, float32); the bits of both do not depend on how far rows are apart
/// (a slice equals its dense copy), those of the CPU not on 1, 2 or 5 threads; nothing outside a view is read or written.
void check_conformance(const char* operation, const Case& run);

/// Runs the case until `threads` different threads have done work, which few repetitions are enough for when it is parallel.
void check_uses_threads(int threads, const Case& run);

/// A CPU backend and its threads.
struct Cpu {
  explicit Cpu(int threads) : pool(threads), backend(pool) {}
  ThreadPool pool;
  CpuBackend backend;
};

/// For the initializer-free return of move-only lists.
template <class... M>
std::vector<Matrix> written(M... matrices) {
  std::vector<Matrix> result;
  (result.push_back(std::move(matrices)), ...);
  return result;
}

}  // namespace elastiform
