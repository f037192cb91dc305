#pragma once

#include <string>

#include "kernels/precision.hpp"

namespace elastiform {

/// The instruction set that this precision runs on here, e.g. "AVX3_ZEN4", "AVX3+AMX". Bits are promised only where it is equal.
std::string isa_name(Precision precision);

/// Makes every kernel run on the instruction set that ELASTIFORM_ISA names, one of those that this program and this processor have, or on
/// the best one. Read once, by the first CpuBackend; InputError for any other name. For tests, for bits that equal an older machine's.
void choose_isa();
/// Whether that set has AMX, where the processor does: all names but those without +AMX.
bool isa_allows_tiles();

/// The compiler and its version, e.g. "GCC 12.2.0": it decides how loops are vectorised and contracted.
std::string compiler_name();

/// As the system names the processor, e.g. "AMD EPYC 9R14"; "unnamed processor" where it does not.
std::string processor_name();

}  // namespace elastiform
