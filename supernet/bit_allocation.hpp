#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/function_ref.hpp"

namespace elastiform {

/// A tensor that may be compressed to 8, 4 or 2 bits an element, but to no fewer than least_bits. At b bits its noise adds
/// weight / (2^b - 1)² to the variance of gradients; what is known of a plan ahead of a step are shapes, so ranges and incoming gradients of
/// tensors are taken as equal.
struct CompressedTensor {
  double weight = 0;
  std::int64_t rows = 0, columns = 0;
  int least_bits = 2;

  double variance(int bits) const;
  std::int64_t bytes(int bits) const;
};

/// Bits of each tensor, of little variance among those that fit (ActNN, arXiv 2104.14129, §4.2): from 8 bits on, one after the other is
/// lowered where that adds the least variance for a byte, until all fits; then, the dearest first, each is raised again if that still
/// fits. When nothing fits, the fewest bits of all.
std::vector<int> allocate_bits(std::span<const CompressedTensor> tensors, FunctionRef<bool(std::span<const int>)> fits);

}  // namespace elastiform
