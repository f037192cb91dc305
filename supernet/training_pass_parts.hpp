#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/function_ref.hpp"
#include "supernet/layer_tensors.hpp"
#include "supernet/network.hpp"

namespace elastiform {

/// What a block left behind in forward: its place in the arena and in memory.
struct PassedBlock {
  ConstView x, middle;  // inputs of its branches
  Saved attention, feed_forward;
  std::int64_t after_attention_saved = 0, after_feed_forward_saved = 0;  // marks of the arena
  View cosine, sine;                                                     // rotary positions of kept tokens
};

/// The calling thread's list, empty, with the memory of its earlier passes: a steady step allocates nothing. Networks are shared by
/// threads and keep no state; of passes of a thread only a decoder's runs inside another one.
inline std::vector<PassedBlock>& passed_blocks(bool of_decoder) {
  thread_local std::array<std::vector<PassedBlock>, 2> lists;
  std::vector<PassedBlock>& blocks = lists[of_decoder ? 1 : 0];
  blocks.clear();
  return blocks;
}

/// What stands around the blocks in the place of a network's own embedding and head.
struct PassEnds {
  FunctionRef<void(View x)> enter;                    // writes the blocks' input
  FunctionRef<LossReport(ConstView x, View d)> loss;  // of their output; d receives the gradient there
  FunctionRef<void(ConstView d)> leave;               // the gradient at their input
};

}  // namespace elastiform
