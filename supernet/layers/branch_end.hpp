#pragma once

#include "kernels/backend.hpp"
#include "supernet/layer_tensors.hpp"
#include "supernet/parametrizations/parametrization.hpp"

namespace elastiform {

template <class V>
struct BasicAdapterSlice {
  V down, up;  // [C, width], [width, C]; empty: none
};

/// What follows a branch before the next one reads the stream: nothing, or where the model's tuning has a width an adapter,
/// y = z + W_up · gelu(W_down · z), z as the branch leaves the stream (arXiv 1902.00751, without biases).
class BranchEnd {
 public:
  explicit BranchEnd(const ModelConfig& model) : width_(parametrization_of(model.tuning).how->adapter_width(model)) {}
  bool present() const { return width_ > 0; }

  // What a layer keeps for it, absent where nothing follows. flops: of the product that makes z, 0 where none does.
  KeptTensor stream(std::int64_t N, std::int64_t C, std::int64_t flops) const;          // z
  KeptTensor inner(std::int64_t N, std::int64_t C) const;                               // W_down · z
  KeptTensor activated(std::int64_t N) const;                                           // gelu of it
  std::int64_t result_flops(std::int64_t N, std::int64_t C, std::int64_t flops) const;  // of the product that makes y
  TensorShape backward_scratch(std::int64_t N) const;                                   // its gradient

  /// Where the branch writes rows of z: their place, or y itself.
  View result(View z, View y) const { return present() ? z : y; }
  /// y for rows of z. Used inside panels.
  void forward(Backend& backend, const BasicAdapterSlice<ConstView>& w, View y, ConstView z, View inner, View activated) const;
  void inward(Backend& backend, const BasicAdapterSlice<ConstView>& w, View inner, ConstView z) const;  // a part of it
  void activate(Backend& backend, View activated, ConstView inner) const;

  /// All N rows that backward reads, and scratch.
  struct Operands {
    ConstView z, inner, activated;
    View scratch;
  };
  /// d holds the gradient at y and receives the one at z. Outside panels.
  void backward(Backend& backend, const BasicAdapterSlice<ConstView>& w, const BasicAdapterSlice<View>& dw, const Operands& o, View d,
                bool accumulate) const;

 private:
  std::int64_t width_;
};

}  // namespace elastiform
