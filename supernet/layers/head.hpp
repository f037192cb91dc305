#pragma once

#include <span>

#include "kernels/backend.hpp"
#include "supernet/layer_tensors.hpp"
#include "supernet/network.hpp"
#include "supernet/weight_slice.hpp"

namespace elastiform {

template <class V>
struct BasicHeadSlices {
  BasicNormSlice<V> norm;
  V table;  // [vocabulary, C]: the token embedding when tied
  V bias;   // [1, vocabulary]; empty: none
};
using HeadSlices = BasicHeadSlices<ConstView>;
using HeadGradients = BasicHeadSlices<View>;

/// What the head allocates.
struct HeadTensors {
  ShortList<TensorShape> saved;             // during the whole of it
  ShortList<TensorShape> forward_scratch;   // of score
  ShortList<TensorShape> backward_scratch;  // of forward_backward
};

/// logits = norm(x) · tableᵀ + bias (x · tableᵀ where the residual rule has no final norm) and the loss, in chunks of tokens: no [N, V] matrix exists however large the vocabulary is.
class Head {
 public:
  enum Kept { kHidden, kRstd, kMean, kLosses, kTeacherLosses };

  explicit Head(const ModelConfig& model) : model_(model) {}

  /// Everything that forward_backward takes; score takes the saved ones (without teacher) and the forward scratch.
  static HeadTensors tensors(const ModelConfig& model, const BlockShape& shape, const BackendTraits& traits, bool with_teacher);
  /// Tokens whose logits are formed at once: about 4 MiB of float32, whole panels.
  static std::int64_t chunk_rows(const ModelConfig& model, std::int64_t rows, const BackendTraits& traits);
  /// Whether a chunk has too few panels to occupy the workers: then they share its vocabulary instead, and pack nothing for each other.
  static bool shares_vocabulary(const ModelConfig& model);

  /// Losses and, in one pass, the gradient: d [N, C] receives the gradient at x, unless LossOptions::forward_only.
  /// teacher_head: what turns the teacher's hidden states into
  /// logits; its norm is not read.
  LossReport forward_backward(Backend& backend, const HeadSlices& w, const HeadGradients& dw, const HeadSlices& teacher_head,
                              const BlockShape& shape, const Saved& saved, View d, ConstView x, const Batch& batch,
                              const LossOptions& options, const Teacher& teacher, Arena& arena) const;
  void score(Backend& backend, const HeadSlices& w, const Saved& saved, ConstView x, const Batch& batch, View losses, View correct,
             Arena& arena) const;
  /// Of the rows of x, what logits are made of, into kHidden.
  void hidden(Backend& backend, const HeadSlices& w, const Saved& saved, ConstView x) const { normalize(backend, w, saved, x); }
  /// logits [N, V] of the rows of x.
  void logits(Backend& backend, const HeadSlices& w, const Saved& saved, ConstView x, View logits) const;

 private:
  void normalize(Backend& backend, const HeadSlices& w, const Saved& saved, ConstView x) const;
  const ModelConfig& model_;
};

}  // namespace elastiform
