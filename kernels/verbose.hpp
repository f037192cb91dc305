#pragma once

#include <string_view>

namespace elastiform {

/// Whether ELASTIFORM_VERBOSE, a comma-separated list of topics, names this one: kernels, a line for every operation and a
/// summary at the end; summary, that alone.
/// The variable is read once; an unknown topic in it throws InputError.
bool verbose(std::string_view topic);

}  // namespace elastiform
