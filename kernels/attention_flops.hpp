#pragma once

#include "kernels/ops/attention.hpp"

namespace elastiform {

/// Of so many products of queries and keys, or of what has their shape: forward has 2, backward 5.
inline double attention_flops(const AttentionShape& s, int products) {
  const std::int64_t keys_twice = s.causal ? 2 * s.key_tokens - s.query_tokens + 1 : 2 * s.key_tokens;
  const double pairs = static_cast<double>(s.query_tokens) * static_cast<double>(keys_twice) / 2;
  return 2.0 * products * pairs * static_cast<double>(s.batch * s.heads * s.head_dim);
}

}  // namespace elastiform
