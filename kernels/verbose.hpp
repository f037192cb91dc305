#pragma once

#include <string_view>

namespace elastiform {

/// Whether ELASTIFORM_VERBOSE, a comma-separated list of topics, names this one. The only topic is kernels: a line for every operation.
/// The variable is read once; an unknown topic in it throws InputError.
bool verbose(std::string_view topic);

}  // namespace elastiform
