#pragma once

// Included before hwy/highway.h by every file of this folder. x86 without AVX2 runs the scalar code (3 GF/s), AVX3_DL differs from AVX3 only
// in instructions we do not use. SVE and RVV vectors have no size at compile time, so accumulators could not be arrays of them.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
