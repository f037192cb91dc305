#pragma once

#include <string>

namespace elastiform {

/// The instruction set that vector code runs on here, e.g. "AVX3_ZEN4". Bits are promised only where it is equal.
std::string isa_name();

/// Makes every kernel run on the instruction set that ELASTIFORM_ISA names, one of those that this program and this processor have, or on
/// the best one. Read once, by the first CpuBackend; InputError for any other name. For tests, for bits that equal an older machine's.
void choose_isa();

/// The compiler and its version, e.g. "GCC 12.2.0": it decides how loops are vectorised and contracted.
std::string compiler_name();

}  // namespace elastiform
