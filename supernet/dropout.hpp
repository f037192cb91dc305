#pragma once

#include <cstdint>

#include "kernels/backend.hpp"

namespace elastiform {

/// One of a pass's dropouts; rate 0: none.
struct DropoutPlace {
  double rate = 0;
  std::uint64_t seed = 0, step = 0;
  std::uint32_t place = 0;
  std::int64_t rows_before = 0;
  bool is_on() const { return rate > 0; }
  /// y = dropped(x) + add (kernels/ops/dropout.hpp) for rows of matrices that begin with row `first`.
  void apply(Backend& backend, View y, ConstView x, ConstView add, std::int64_t first) const {
    backend.dropout(
        {.y = y, .x = x, .add = add, .rate = rate, .seed = seed, .step = step, .place = place, .rows_before = rows_before + first});
  }
};

/// The dropout of a training pass: of the embedding, and of what each branch adds to the residual stream, behind its last product, as GPT-2 has
/// them. A mask belongs to a block of the supernet, a row of the step's batch and a column: subnets of a step have it in common where they
/// overlap, and it does not matter how the batch is cut into micro-batches.
struct PassDropout {
  double rate = 0;
  std::uint64_t seed = 0, step = 0;
  std::int64_t rows_before = 0;  // of the step's batch, before this one's
  bool is_on() const { return rate > 0; }
  DropoutPlace embedding() const { return at(0); }
  DropoutPlace attention(int block) const { return at(2 * static_cast<std::uint32_t>(block) + 1); }
  DropoutPlace feed_forward(int block) const { return at(2 * static_cast<std::uint32_t>(block) + 2); }

 private:
  DropoutPlace at(std::uint32_t place) const { return {rate, seed, step, place, rows_before}; }
};

}  // namespace elastiform
