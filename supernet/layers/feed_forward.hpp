#pragma once

#include <span>

#include "kernels/backend.hpp"
#include "supernet/layer_tensors.hpp"
#include "supernet/layers/branch_end.hpp"
#include "supernet/layers/residual.hpp"
#include "supernet/search_space.hpp"
#include "supernet/weight_slice.hpp"

namespace elastiform {

template <class V>
struct BasicFeedForwardSlices {
  BasicNormSlice<V> norm;
  BasicLinearSlice<V> gate, up, down;  // [C, F] (gate: swiglu only), [C, F], [F, C]
  BasicResidualSlices<V> residual;
  BasicBranchEnds<V> ends() const { return {norm, residual, down}; }
  BasicAdapterSlice<V> end;
};
using FeedForwardSlices = BasicFeedForwardSlices<ConstView>;
using FeedForwardGradients = BasicFeedForwardSlices<View>;

/// y = x + s · W_down · (silu(W_gate h) ∘ W_up h), or x + s · W_down · gelu(W_up h); h = norm(x), s the branch scale, or as another residual
/// rule has its ends. arXiv 2002.05202. x, y [N, C].
class FeedForward {
 public:
  enum Kept { kNormed, kGate, kUp, kActivated, kRstd, kMean, kBranch, kStream, kInner, kInnerActivated };

  explicit FeedForward(const ModelConfig& model) : model_(model) {}

  static LayerTensors tensors(const ModelConfig& model, const BlockShape& shape, const BackendTraits& traits);
  /// What may be dropped after forward, from nothing to all. Of the [N, F] tensors the activation is an elementwise function of the
  /// others, the rest costs a product each.
  static std::span<const TensorSet> levels();

  void forward(Backend& backend, const FeedForwardSlices& w, const BlockShape& shape, const Saved& saved, View y, ConstView x,
               Arena& arena) const;
  /// d [N, C] holds the gradient at y and receives the one at x. Gradients of weights are added to, or not accumulate: written. Overwrites
  /// what `saved` holds.
  void backward(Backend& backend, const FeedForwardSlices& w, const FeedForwardGradients& dw, const BlockShape& shape, const Saved& saved,
                View d, ConstView x, bool accumulate, Arena& arena) const;

 private:
  /// What the first products make of h: gate (swiglu only), up.
  void open_gate(Backend& backend, const FeedForwardSlices& w, View gate, ConstView h) const;
  void raise(Backend& backend, const FeedForwardSlices& w, View up, ConstView h) const;
  void activate(Backend& backend, const FeedForwardSlices& w, View act, ConstView gate, ConstView up) const;
  /// An adapter's part of backward: d becomes the gradient at what it takes.
  void end_backward(Backend& backend, const Residual& residual, const FeedForwardSlices& w, const FeedForwardGradients& dw,
                    const BackwardTensors& t, const EndTensors& kept, View d, ConstView x, ConstView act, bool accumulate,
                    View scratch) const;
  bool gated() const { return model_.ffn == FeedForwardKind::swiglu; }
  Gelu gelu() const { return model_.ffn == FeedForwardKind::gelu_erf ? Gelu::erf : Gelu::tanh; }
  const ModelConfig& model_;
};

}  // namespace elastiform
