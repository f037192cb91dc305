#pragma once

#include <cstdint>
#include <vector>

namespace elastiform {

/// Token ids of B sequences of T tokens, row-major [B,T], and what should follow each; kIgnoredTarget (-100) is not counted.
struct Batch {
  std::int64_t sequences = 0;  // B
  std::int64_t tokens = 0;     // T
  std::vector<std::int32_t> inputs, targets;
  std::int64_t rows() const { return sequences * tokens; }
};

}  // namespace elastiform
