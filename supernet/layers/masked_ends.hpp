#pragma once

#include "kernels/arena.hpp"
#include "kernels/backend.hpp"
#include "supernet/data/batch.hpp"
#include "supernet/layer_tensors.hpp"
#include "supernet/network.hpp"
#include "supernet/search_space.hpp"
#include "supernet/weight_slice.hpp"

namespace elastiform {

template <class V>
struct BasicMaskedSlices {
  BasicNormSlice<V> encoder_norm;  // the network's final one
  BasicLinearSlice<V> hidden;      // [C, E]
  V mask;                          // [1, E]
  V positions;                     // [T, E]
  BasicNormSlice<V> norm;          // behind the decoder's blocks
  BasicLinearSlice<V> values;      // [values of a patch, E]: turned, like a head's table
};
using MaskedSlices = BasicMaskedSlices<ConstView>;
using MaskedGradients = BasicMaskedSlices<View>;

/// Rows and columns of one pass of B images, of which the encoder sees N tokens.
struct MaskedShape {
  std::int64_t seen = 0, masked = 0;              // N, B · masked patches
  std::int64_t embed = 0, width = 0, values = 0;  // C, E, values of a patch
};

/// What stands around a decoder's blocks (arXiv 2111.06377): before them stream[r] = lookup[r] + positions, lookup = the mask and
/// norm(x) · W + bias of the tokens that the encoder has seen; behind them the values of the masked patches, and their mean squared error.
class MaskedEnds {
 public:
  enum Kept { kNormed, kRstd, kMean };

  /// network: whose final norm comes first; decoder: of decoder_space().
  MaskedEnds(const ModelConfig& network, const ModelConfig& decoder) : network_(network), decoder_(decoder) {}

  /// What is kept from enter to leave, and the arena bytes that each of the three takes for itself.
  static ShortList<TensorShape> kept(const ModelConfig& network, const MaskedShape& shape);
  static std::int64_t enter_bytes(const MaskedShape& shape, DType dtype);
  static std::int64_t loss_bytes(const MaskedShape& shape, const BackendTraits& traits);
  static std::int64_t leave_bytes(const ModelConfig& network, const MaskedShape& shape, const BackendTraits& traits);

  /// stream [B·T, E] of x [N, C], behind the encoder's blocks.
  void enter(Backend& backend, const MaskedSlices& w, const Saved& saved, ConstView x, const Batch& batch, View stream, Arena& arena) const;
  /// Of x [B·T, E], behind the decoder's blocks; d receives the gradient there, 0 for what was seen, unless LossOptions::forward_only.
  LossReport loss(Backend& backend, const MaskedSlices& w, const MaskedGradients& dw, ConstView x, View d, const Batch& batch,
                  const LossOptions& options, Arena& arena) const;
  /// dstream: the gradient at the stream; d [N, C] receives the one at x.
  void leave(Backend& backend, const MaskedSlices& w, const MaskedGradients& dw, const Saved& saved, ConstView x, ConstView dstream, View d,
             const Batch& batch, bool accumulate, Arena& arena) const;

 private:
  const ModelConfig &network_, &decoder_;
};

}  // namespace elastiform
