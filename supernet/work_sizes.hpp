#pragma once

#include "kernels/cuda/kept_bytes.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// Of passes with that many tokens through any subnet of the table's space; `trains`: and of updates.
WorkSizes work_sizes(const WeightTable& table, const BackendTraits& traits, std::int64_t tokens, bool trains);

}  // namespace elastiform
