#pragma once

#include "kernels/backend.hpp"
#include "supernet/data/batch.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// What a classifier's head reads of each image: its class token, or the mean of its tokens. y [B, C] of x [B·T, C].
class Pooling {
 public:
  explicit Pooling(const ModelConfig& model) : model_(model) {}
  /// A language model's head reads x as it is.
  static bool present(const ModelConfig& model) { return model.classifies(); }

  void forward(Backend& backend, View y, ConstView x, const Batch& batch) const;
  /// d [B·T, C] receives the gradient at x. dy may be overwritten.
  void backward(Backend& backend, View d, View dy, const Batch& batch) const;

 private:
  bool takes_mean() const { return model_.readout == Readout::mean; }
  const ModelConfig& model_;
};

}  // namespace elastiform
