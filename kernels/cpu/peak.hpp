#pragma once

namespace elastiform::cpu {

/// FLOP/s of one core in independent float32 fused multiply-adds: what a GEMM is measured against. Takes about 0.1 s.
double measure_fma_peak();

}  // namespace elastiform::cpu
