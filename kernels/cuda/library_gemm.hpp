#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/cuda/launch.hpp"
#include "kernels/view.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// c[M,N] = alpha · A[M,K] · B[K,N] + bias[N] + beta · add[M,N] on row-major matrices; a transposed factor is stored the other way round.
/// Both factors have one type; products of float32 multiply float32, not TF32. bias and add have c's type and may be nullptr.
struct GemmCall {
  std::int64_t M = 0, N = 0, K = 0;
  const void *a = nullptr, *b = nullptr, *bias = nullptr, *add = nullptr;
  void* c = nullptr;
  std::int64_t a_ld = 0, b_ld = 0, add_ld = 0, c_ld = 0;
  DType type = DType::float32, c_type = DType::float32;
  bool a_transposed = false, b_transposed = false;
  float alpha = 1, beta = 0;
};

/// The device's own library of matrix products. The fastest of what it proposes for a shape is timed once and kept in a file, since which
/// one runs decides the bits of a result.
class LibraryGemm {
 public:
  virtual ~LibraryGemm() = default;
  /// False: it has nothing for this call, which our kernel then computes.
  virtual bool multiply(Stream stream, const GemmCall& call) = 0;
  virtual std::string name() const = 0;  // "cuBLASLt 13.1.0"
};

/// nullptr where the device has none.
std::unique_ptr<LibraryGemm> make_library_gemm();

}  // namespace elastiform::ELASTIFORM_GPU
