#pragma once

#include <vector>

#include "supernet/search_space.hpp"

namespace elastiform {

/// What the rule of `model` divides the rotary frequencies rope_theta^(-2i / head_dim) by, i = 0 … head_dim/2 - 1.
std::vector<double> rotary_divisors(const ModelConfig& model);

/// Angle of a pair of a head's channels from one position to the next, in radians: those frequencies, divided.
std::vector<double> rotary_frequencies(const ModelConfig& model);

}  // namespace elastiform
