#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "trainers/optimizers/bands.hpp"

namespace elastiform {

/// A copy of the weights in which the matrices of blocks are rounded to a narrower format, each with one scale for the whole tensor: a slice
/// has the codes of the whole. All else (embeddings, head, norms, biases) is copied.
class RoundedWeights {
 public:
  RoundedWeights(std::shared_ptr<const WeightTable> table, const Backend& backend);
  static bool rounds(const TensorSpec& tensor) { return tensor.role == Role::matrix || tensor.role == Role::residual_out; }

  /// Brings the active bands up to date. scales: of each tensor of the table.
  const Weights& update(Backend& backend, const Weights& weights, const ActiveBands& active, NumberFormat format,
                        const std::vector<double>& scales);
  /// The tensor of the table whose first element, in the copy or in `gradients`, that is; -1: none that is rounded.
  int tensor_at(const std::byte* first, const Weights* gradients) const;
  std::int64_t bytes() const { return copy_.bytes(); }

 private:
  Weights copy_;
  std::vector<BandRectangle> rectangles_;
};

}  // namespace elastiform
