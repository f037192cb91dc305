#pragma once

#include "kernels/arena.hpp"
#include "kernels/backend.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// P rows in front of each sequence's T embedded tokens: a prompt's learned vectors (arXiv 2104.08691), or zeros where attention puts a
/// prefix's keys and values. Blocks process P + T rows a sequence; rotary positions count from the first of them, learned ones belong to
/// the tokens alone. What stands behind the blocks reads the tokens' rows.
class Prompt {
 public:
  static bool present(const ModelConfig& model) { return model.front_rows() > 0; }
  /// Of the tokens' rows alone, which stand in the arena on their way in and out; 0 without a prompt.
  static std::int64_t arena_bytes(const ModelConfig& model, DType dtype, std::int64_t rows, std::int64_t embed);

  /// x [B·(P+T), C] of prompt [P, C], or zeros where that is empty, and tokens [B·T, C].
  static void prepend(Backend& backend, View x, ConstView prompt, ConstView tokens, std::int64_t sequences);
  /// tokens [B·T, C] of x.
  static void strip(Backend& backend, View tokens, ConstView x, std::int64_t sequences);
  /// The gradient at x of the one at its tokens, zero at the prompt's rows: what follows the blocks does not read them.
  static void strip_backward(Backend& backend, View d, ConstView dtokens, std::int64_t sequences);
  /// Adds the gradient at x to the prompt's, sequence after sequence.
  static void prepend_backward(Backend& backend, View dprompt, ConstView d, std::int64_t sequences);
};

}  // namespace elastiform
