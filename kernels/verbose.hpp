#pragma once

#include <string_view>

namespace elastiform {

/// Whether ELASTIFORM_VERBOSE, a comma-separated list of kernels, plan and search, names this topic. The variable is read once; an
/// unknown topic in it throws InputError.
bool verbose(std::string_view topic);

}  // namespace elastiform
