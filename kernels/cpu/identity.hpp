#pragma once

#include <string>

namespace elastiform {

/// The instruction set that vector code runs on here, e.g. "AVX3_ZEN4". Bits are promised only where it is equal.
std::string isa_name();

/// The compiler and its version, e.g. "GCC 12.2.0": it decides how loops are vectorised and contracted.
std::string compiler_name();

}  // namespace elastiform
