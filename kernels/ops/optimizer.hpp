#pragma once

#include <tuple>

#include "kernels/view.hpp"

namespace elastiform {

/// One AdamW step (arXiv 1711.05101, the order of PyTorch) on a rectangle whose elements share one step counter t ≥ 1:
/// θ ← θ(1 - rate·decay); m ← β1 m + (1-β1) g; v ← β2 v + (1-β2) g²; θ ← θ - rate · (m/c1) / (sqrt(v/c2) + eps),
/// with g = gradient_scale · gradient, c1 = 1-β1^t, c2 = 1-β2^t given by the caller. An empty gradient is zero (policy dense).
/// Runs serially on the caller: the optimizer spreads rectangles over workers with Backend::for_each.
struct Adamw {
  static constexpr const char* kName = "adamw";
  View weight, m, v;
  ConstView gradient;
  double rate = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0, correction1 = 1, correction2 = 1, gradient_scale = 1;
  void check() const;
  auto fields() const { return std::tie(weight, m, v, gradient); }
};

}  // namespace elastiform
