#pragma once

#include <cstdint>
#include <vector>

// What instructions and conversions of kernels/cuda/gpu.hpp make of numbers whose results are exact, as bits: of a GPU, and of the host's twins.
namespace elastiform::cuda {
std::vector<std::uint32_t> bits_of_instructions();
}
namespace elastiform::cuda_on_host {
std::vector<std::uint32_t> bits_of_instructions();
}
