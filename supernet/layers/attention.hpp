#pragma once

#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "supernet/layer_tensors.hpp"
#include "supernet/layers/branch_end.hpp"
#include "supernet/layers/residual.hpp"
#include "supernet/search_space.hpp"
#include "supernet/weight_slice.hpp"

namespace elastiform {

template <class V>
struct BasicAttentionSlices {
  BasicNormSlice<V> norm;
  BasicLinearSlice<V> query, key, value, out;  // [C, H·D], [C, k·D] twice, [H·D, C]
  BasicResidualSlices<V> residual;
  BasicBranchEnds<V> ends() const { return {norm, residual, out}; }
  BasicAdapterSlice<V> end;
  V prefix_key{}, prefix_value{};  // [P, k·D] of a tuned prefix; empty: none
};
using AttentionSlices = BasicAttentionSlices<ConstView>;
using AttentionGradients = BasicAttentionSlices<View>;

/// Keys and values of one block, and how many tokens they hold already.
struct BlockCache {
  View keys, values;  // [context, k·D]
  std::int64_t tokens = 0;
};

/// y = x + s · W_out · attention(rope(W_q h), rope(W_k h), W_v h), h = norm(x), s the branch scale, or as another residual rule has its
/// ends. Grouped queries: arXiv 2305.13245. x, y [N, C]; N = batch · tokens.
class Attention {
 public:
  enum Kept { kNormed, kQuery, kKey, kValue, kMixed, kRstd, kMean, kLogSumExp, kShifted, kBranch, kStream, kInner, kInnerActivated };

  /// cosine, sine [context, D/2] of the rotary positions; empty for learned positions. Borrowed.
  Attention(const ModelConfig& model, ConstView cosine, ConstView sine) : model_(model), cosine_(cosine), sine_(sine) {}

  static LayerTensors tensors(const ModelConfig& model, const BlockShape& shape, const BackendTraits& traits);
  /// What may be dropped after forward, from nothing to all. The mixed values take as many bytes as the queries; to compute them again is
  /// a pass over all pairs of tokens, so they go first where contexts are short, and queries, keys and values where they are long.
  static std::span<const TensorSet> levels();
  static ShortList<TensorShape> decode_scratch(const ModelConfig& model, const BlockShape& shape);

  void forward(Backend& backend, const AttentionSlices& w, const BlockShape& shape, const Saved& saved, View y, ConstView x,
               Arena& arena) const;
  /// d [N, C] holds the gradient at y and receives the one at x. Gradients of weights are added to, or not accumulate: written.
  void backward(Backend& backend, const AttentionSlices& w, const AttentionGradients& dw, const BlockShape& shape, const Saved& saved,
                View d, ConstView x, bool accumulate, Arena& arena) const;
  /// Forward of the next shape.rows() tokens of one sequence; their keys and values are appended to the cache (whose count the caller keeps).
  void decode(Backend& backend, const AttentionSlices& w, const BlockShape& shape, const BlockCache& cache, View y, ConstView x,
              Arena& arena) const;

 private:
  /// What backward reads, kept or computed again.
  struct Operands {
    ConstView h, q, k, v, last;  // last: what the last product takes
    View mixed, lse;
    EndTensors ends;
  };
  /// A prefix's rows in front of each sequence's own, of keys and of values [B·(P+T), k·D].
  static void put_prefix(Backend& backend, const BlockShape& shape, View x, ConstView prefix);
  /// Adds the gradient there to the prefix's, and clears it: behind it there is nothing that learns.
  static void take_prefix(Backend& backend, const BlockShape& shape, View dprefix, View dx);
  Operands recall(Backend& backend, const Residual& residual, const AttentionSlices& w, const BlockShape& shape, const BackwardTensors& t,
                  ConstView x) const;
  /// What the last product takes: `mixed`, or with the residual rule's shift in `to`.
  ConstView shifted(Backend& backend, const AttentionSlices& w, View to, ConstView mixed) const;
  void project(Backend& backend, View y, ConstView h, const WeightSlice& w) const;
  /// An adapter's part of backward: d becomes the gradient at what it takes.
  void end_backward(Backend& backend, const Residual& residual, const AttentionSlices& w, const AttentionGradients& dw,
                    const BackwardTensors& t, const Operands& o, View d, ConstView x, bool accumulate, View scratch) const;
  /// Rows from first_row on of whole sequences, or of shape.cosine; offset: of the first sequence's first token.
  void rotate(Backend& backend, View x, const BlockShape& shape, std::int64_t first_row, std::int64_t offset, bool inverse) const;
  AttentionShape kernel_shape(const BlockShape& shape, std::int64_t key_tokens) const;
  const ModelConfig& model_;
  ConstView cosine_, sine_;
};

}  // namespace elastiform
