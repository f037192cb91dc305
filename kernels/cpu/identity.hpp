#pragma once

#include <string>

namespace elastiform {

/// The instruction set that vector code runs on here, e.g. "AVX3_ZEN4". Bits are promised only where it is equal.
std::string isa_name();

/// "2.6.3".
std::string onednn_version();

}  // namespace elastiform
