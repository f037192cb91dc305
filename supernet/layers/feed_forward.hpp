#pragma once

#include "kernels/backend.hpp"
#include "supernet/activation_plan.hpp"
#include "supernet/weight_slice.hpp"

namespace elastiform {

template <class V>
struct BasicFeedForwardSlices {
  BasicNormSlice<V> norm;
  BasicLinearSlice<V> gate, up, down;  // [C, F] (gate: swiglu only), [C, F], [F, C]
};
using FeedForwardSlices = BasicFeedForwardSlices<ConstView>;
using FeedForwardGradients = BasicFeedForwardSlices<View>;

/// y = x + s · W_down · (silu(W_gate h) ∘ W_up h), or x + s · W_down · gelu(W_up h); h = norm(x), s the branch scale. arXiv 2002.05202.
/// x, y [N, C].
class FeedForward {
 public:
  enum Kept { kNormed, kGate, kUp, kActivated, kRstd, kMean, kResult };

  explicit FeedForward(const ModelConfig& model) : model_(model) {}

  static LayerTensors tensors(const ModelConfig& model, const BlockShape& shape, int slots);

  void forward(Backend& backend, const FeedForwardSlices& w, const Saved& saved, View y, ConstView x) const;
  /// d [N, C] holds the gradient at y and receives the one at x.
  void backward(Backend& backend, const FeedForwardSlices& w, const FeedForwardGradients& dw, const BlockShape& shape, const Saved& saved,
                View d, ConstView x, Arena& arena) const;

 private:
  bool gated() const { return model_.ffn == FeedForwardKind::swiglu; }
  Gelu gelu() const { return model_.ffn == FeedForwardKind::gelu_erf ? Gelu::erf : Gelu::tanh; }
  const ModelConfig& model_;
};

}  // namespace elastiform
