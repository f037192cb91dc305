#pragma once

#include "kernels/view.hpp"

namespace elastiform::cpu {

/// c[M,N] = scale · (a[M,K] · B + bias[1,N]) + add[M,N]; B is b[K,N], or b[N,K] transposed. a, b and c in float32 or bfloat16, sums, bias
/// and add in float32; empty bias or add: none; add may be c. The promises of gemm.hpp. Only where has_bf16().
struct GemmBf16 {
  View c;
  ConstView a, b, bias, add;
  bool transposed = false;
  float scale = 1;
};
void gemm_bf16(const GemmBf16& op);

/// c[M,N] += scale · aᵀ · b with a[K,M] and b[K,N].
struct GemmAccumulateBf16 {
  View c;
  ConstView a, b;
  float scale = 1;
};
void gemm_accumulate_bf16(const GemmAccumulateBf16& op);

}  // namespace elastiform::cpu
