#pragma once

#include <string>

namespace elastiform {

/// The hash of a tuning's weights when it is merged at one of its ranks; 0: the largest, whose hash is that of the weights.
std::string hash_at_rank(const std::string& hash, int rank);

}  // namespace elastiform
