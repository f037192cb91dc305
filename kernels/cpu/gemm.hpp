#pragma once

#include <cstdint>

namespace elastiform::cpu {

/// c[M,N] = scale · (a[M,K] · B + bias[N]) + add[M,N]; B is b[K,N], or b[N,K] transposed. Null bias or add: none; add may be c.
/// Serial. An element's bits depend on its row of a, its column of B and the scalars only: not on M, N, leading dimensions, alignment.
struct Gemm {
  float* c = nullptr;
  std::int64_t ldc = 0, M = 0, N = 0, K = 0;
  const float* a = nullptr;
  std::int64_t lda = 0;
  const float* b = nullptr;
  std::int64_t ldb = 0;
  bool transposed = false;
  float scale = 1;
  const float* bias = nullptr;
  const float* add = nullptr;
  std::int64_t ldadd = 0;
};
void gemm(const Gemm& op);

/// c[M,N] (accumulate: +)= scale · aᵀ · b with a[K,M] and b[K,N], the K rows in blocks of fixed size, one after the other. Serial; bits as
/// above, so callers may cut c into tiles. Up to 400 rows of c a block of a stays in L2.
struct GemmAccumulate {
  float* c = nullptr;
  std::int64_t ldc = 0, M = 0, N = 0, K = 0;
  const float* a = nullptr;
  std::int64_t lda = 0;
  const float* b = nullptr;
  std::int64_t ldb = 0;
  float scale = 1;
  bool accumulate = true;
};
void gemm_accumulate(const GemmAccumulate& op);

}  // namespace elastiform::cpu
