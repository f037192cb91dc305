#pragma once

#include "kernels/cpu/gemm.hpp"

namespace elastiform::cpu {

/// The products of gemm.hpp with a and b rounded to bf16 and sums in float32; the same promises. Only where has_bf16().
void gemm_bf16(const Gemm& op);
void gemm_accumulate_bf16(const GemmAccumulate& op);

}  // namespace elastiform::cpu
