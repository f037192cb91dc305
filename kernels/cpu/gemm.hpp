#pragma once

#include <cstdint>

#include "kernels/cpu/shared_packs.hpp"

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
  SharedPack* pack = nullptr;  // of a transposed B: gemm_pack(), or null
};
void gemm(const Gemm& op);

/// Where the products of a loop over panels share B[N,K] packed; null if it is not transposed, outside a loop, or without room.
SharedPack* gemm_pack(SharedPacks& packs, ConstView b, bool transposed);
/// At most what it takes.
std::int64_t gemm_pack_bytes(std::int64_t rows, std::int64_t columns);

/// c[M,N] (accumulate: +)= scale · aᵀ · b with a[K,M] and b[K,N], the K rows in blocks of fixed size, one after the other. Serial; bits as
/// above, so callers cut c into tiles; M is at most kMaxRows, as a block of a, packed, stays in L2.
struct GemmAccumulate {
  static constexpr std::int64_t kMaxRows = 384;
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
