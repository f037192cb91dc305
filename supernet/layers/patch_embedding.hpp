#pragma once

#include "kernels/arena.hpp"
#include "kernels/backend.hpp"
#include "supernet/data/batch.hpp"
#include "supernet/layer_tensors.hpp"
#include "supernet/search_space.hpp"
#include "supernet/weight_slice.hpp"

namespace elastiform {

template <class V>
struct BasicPatchSlices {
  BasicLinearSlice<V> patch;  // [values of a patch, C]
  V class_token;              // [1, C]; empty: none
  V distillation_token;       // likewise
  V positions;                // [T, C]
};
using PatchSlices = BasicPatchSlices<ConstView>;
using PatchGradients = BasicPatchSlices<View>;

/// Values of patches [rows, columns] in the backend's memory and type.
View patch_values_of(Backend& backend, const std::vector<float>& values, std::int64_t rows, std::int64_t columns, Arena& arena);

/// x[b·T + t] = lookup[batch.inputs[b·T + t]] + positions[t], lookup = the class and the distillation token, where there are such, and then
/// patches · W + bias (arXiv 2010.11929, 2012.12877). x [B·T, C]. Of masked images T are the tokens that are left, each at its own position.
class PatchEmbedding {
 public:
  explicit PatchEmbedding(const ModelConfig& model) : model_(model) {}

  /// Arena bytes of either pass, beside x. masked: patches of an image that the batch leaves out.
  static std::int64_t arena_bytes(const ModelConfig& model, DType dtype, std::int64_t images, std::int64_t embed, std::int64_t masked);

  void forward(Backend& backend, const PatchSlices& w, const Batch& batch, View x, Arena& arena) const;
  /// d: the gradient at x. Those of the first tokens and of positions are added to, as of lookups; the others too, or not accumulate: written.
  void backward(Backend& backend, const PatchGradients& dw, const Batch& batch, ConstView d, bool accumulate, Arena& arena) const;

 private:
  std::int64_t first_patch() const { return model_.tokens_before_patches(); }  // its row in the lookup
  /// The batch's patches in the backend's memory and type.
  View patches(Backend& backend, const Batch& batch, Arena& arena) const;
  const ModelConfig& model_;
};

}  // namespace elastiform
