#pragma once

#include <memory>
#include <vector>

#include "supernet/weights.hpp"

namespace elastiform {

/// A table with a matrix of four column bands, block.0.ffn.down: one for each element of the reference vectors.
inline std::shared_ptr<const WeightTable> four_band_table() {
  ModelConfig model = preset_model("llama");
  model.head_dim = 2;
  const SearchSpace::Block block{{1}, {.widths = {8}, .ratios = {}}};
  return std::make_shared<const WeightTable>(SearchSpace(model, {2, 4, 6, 8}, {1}, {block}));
}

/// The same value in all elements of a band.
inline void set_bands(Weights& weights, const TensorSpec& tensor, const std::vector<double>& values) {
  for (std::int64_t row = 0; row < tensor.rows; ++row)
    for (std::int64_t column = 0; column < tensor.columns; ++column)
      weights.view(tensor).row<double>(row)[column] = values[static_cast<std::size_t>(column / 2)];
}

}  // namespace elastiform
