#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "trainers/optimizers/bands.hpp"

namespace elastiform {

/// Norms over what a step trains of each tensor, from squares of its rectangles: LAMB's and LARS' ratios are of the active slice, not of
/// the whole tensor (1.315 and 0.785 in the reference's case, methods §3.6).
struct SliceNorms {
  double weight = 0, direction = 0;
};

/// Matrices and embeddings. Gains, biases, gates and shifts are moved by the plain rate: their norms say little, and a gate that begins
/// near 0 would hardly move.
inline bool has_trust_ratio(const TensorSpec& tensor) { return decays(tensor) || tensor.role == Role::embedding; }

/// ratios[i] of each rectangle, from squares[i] of it: ratio_of(its tensor, norms of that one's rectangles), 1 without trust ratio or where a norm is 0.
/// A list has a tensor's rectangles together.
template <class RatioOf>
void trust_ratios(std::span<const BandRectangle> rectangles, std::span<const StepSquares> squares, const RatioOf& ratio_of,
                  std::span<double> ratios) {
  for (std::size_t first = 0, end = 0; first < rectangles.size(); first = end) {
    SliceNorms norms;
    for (end = first; end < rectangles.size() && rectangles[end].tensor == rectangles[first].tensor; ++end) {
      norms.weight += squares[end].weight;
      norms.direction += squares[end].direction;
    }
    norms = {std::sqrt(norms.weight), std::sqrt(norms.direction)};
    const bool trusted = has_trust_ratio(*rectangles[first].tensor) && norms.weight > 0 && norms.direction > 0;
    std::fill(ratios.begin() + static_cast<std::ptrdiff_t>(first), ratios.begin() + static_cast<std::ptrdiff_t>(end),
              trusted ? ratio_of(*rectangles[first].tensor, norms) : 1.0);
  }
}

}  // namespace elastiform
