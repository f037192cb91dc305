#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/view.hpp"
#include "supernet/data/batch.hpp"

namespace elastiform {

/// Which sequences of a micro-batch a step uphill hurts most: what a step rule's second pass may be over (RulePass::sharpest).
class SharpSequences {
 public:
  SharpSequences() = default;
  /// For so many micro-batches of so many sequences.
  SharpSequences(int sequences, std::int64_t micro_batches);
  /// What that takes.
  static std::int64_t bytes(int sequences, std::int64_t micro_batches);
  /// Whether there is anything to choose.
  bool chooses() const { return !before_.empty(); }

  /// Losses of all tokens of a micro-batch [1, rows of the head], in the host's memory, before the step uphill.
  void before(std::int64_t micro_batch, const Batch& batch, ConstView losses);
  /// From those after it: the `count` sequences whose losses have risen most, ascending; of equal ones the first. A loss that is not finite
  /// has risen without bound, so that the pass over it is seen. Valid until the next call.
  std::span<const int> choose(std::int64_t micro_batch, const Batch& batch, ConstView losses, int count);

 private:
  std::size_t sequences_ = 0;
  std::vector<double> before_, rise_;
  std::vector<int> order_;
};

}  // namespace elastiform
