#pragma once

#include <string>

#include "kernels/cuda/library_gemm.hpp"
#include "kernels/cuda/runtime.hpp"
#include "tests/support/matrix.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// A library that reads its call as library_gemm.hpp describes it: float64 sums on the host.
class PlainLibrary final : public LibraryGemm {
 public:
  explicit PlainLibrary(int* calls = nullptr) : calls_(calls) {}
  std::string name() const override { return "plain"; }
  bool multiply(Stream stream, const GemmCall& c) override {
    if (calls_) ++*calls_;
    const Matrix a = read(stream, c.a, c.a_transposed ? c.K : c.M, c.a_transposed ? c.M : c.K, c.a_ld, c.type);
    const Matrix b = read(stream, c.b, c.b_transposed ? c.N : c.K, c.b_transposed ? c.K : c.N, c.b_ld, c.type);
    Matrix result = c.beta != 0 ? read(stream, c.add, c.M, c.N, c.add_ld, c.c_type) : Matrix(c.M, c.N, c.N, c.c_type, 0, 0);
    const Matrix bias = c.bias ? read(stream, c.bias, 1, c.N, c.N, c.c_type) : Matrix(1, c.N, c.N, DType::float32, 0, 0);
    for (std::int64_t m = 0; m < c.M; ++m)
      for (std::int64_t n = 0; n < c.N; ++n) {
        double sum = 0;
        for (std::int64_t k = 0; k < c.K; ++k)
          sum += (c.a_transposed ? a.at(k, m) : a.at(m, k)) * (c.b_transposed ? b.at(n, k) : b.at(k, n));
        result.set(m, n, c.alpha * sum + bias.at(0, n) + c.beta * (c.beta != 0 ? result.at(m, n) : 0));
      }
    const std::int64_t element = bytes_of(c.c_type);
    copy_async(stream, c.c, c.c_ld * element, result.view().data, c.N * element, c.N * element, c.M);
    return true;
  }

 private:
  static Matrix read(Stream stream, const void* from, std::int64_t rows, std::int64_t columns, std::int64_t ld, DType dtype) {
    Matrix matrix(rows, columns, columns, dtype, 0, 0);
    const std::int64_t element = bytes_of(dtype);
    copy_async(stream, matrix.view().data, columns * element, from, ld * element, columns * element, rows);
    return matrix;
  }
  int* calls_;
};

}  // namespace elastiform::ELASTIFORM_GPU
