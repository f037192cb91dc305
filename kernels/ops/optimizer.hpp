#pragma once

#include <cstdint>
#include <tuple>

#include "kernels/ops/dynamic_map.hpp"
#include "kernels/view.hpp"

namespace elastiform {

// Updates of a rectangle whose elements share one step counter. Each runs serially on the caller: an optimizer spreads rectangles over
// workers with Backend::for_each. In all of them g = gradient_scale · gradient.
// Decay is decoupled, θ ← θ(1 - rate·decay) first, where an operation does not say something else.

/// One AdamW step (arXiv 1711.05101, the order of PyTorch) at step t ≥ 1:
/// θ ← θ(1 - rate·decay); m ← β1 m + (1-β1) g; v ← β2 v + (1-β2) g²; θ ← θ - rate · (m/c1) / (sqrt(v/c2) + eps),
/// with c1 = 1-β1^t, c2 = 1-β2^t given by the caller. An empty gradient is zero (policy dense).
struct Adamw {
  static constexpr const char* kName = "adamw";
  View weight, m, v;
  ConstView gradient;
  double rate = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0, correction1 = 1, correction2 = 1, gradient_scale = 1;
  void check() const;
  auto fields() const { return std::tie(weight, m, v, gradient); }
};

/// Squares of a step, summed over a rectangle.
struct StepSquares {
  double weight = 0;     // of θ
  double direction = 0;  // of what the rate will be multiplied with
};

/// The part of an AdamW step before its rate is known (LAMB): moments move, and the direction (m/c1) / (sqrt(v/c2) + eps) + decay·θ takes
/// the gradient's place.
struct AdamwDirection {
  static constexpr const char* kName = "adamw_direction";
  ConstView weight;
  View m, v, gradient;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0, correction1 = 1, correction2 = 1, gradient_scale = 1;
  void check() const;
  auto fields() const { return std::tie(weight, m, v, gradient); }
};

/// A step with one moment: g ← g + coupled_decay·θ; d = direction_moment·m + direction_gradient·g; m ← keep·m + take·g;
/// θ ← θ(1 - rate·decay) - rate·d, or rate·sign(d), where sign(0) = 0. An empty gradient is zero.
///   SGD with momentum μ: d is the new m, keep = μ, take = 1; Nesterov's looks a step ahead: d = μ² m + (1+μ) g.
///   Lion (arXiv 2302.06675): the sign of β1 m + (1-β1) g, keep = β2, take = 1-β2.
struct MomentumStep {
  static constexpr const char* kName = "momentum_step";
  View weight, m;
  ConstView gradient;
  double rate = 0, keep = 0.9, take = 1, direction_moment = 0.9, direction_gradient = 1, decay = 0, coupled_decay = 0, gradient_scale = 1;
  bool sign = false;
  void check() const;
  auto fields() const { return std::tie(weight, m, gradient); }
};

/// Adafactor's second moments (arXiv 1804.04235): row[1,n] ← β2 row + (1-β2) mean_j(g² + eps), column[1,m] ← β2 column + (1-β2)
/// mean_i(g² + eps) of a gradient [n,m].
struct FactoredMoments {
  static constexpr const char* kName = "factored_moments";
  View row, column;
  ConstView gradient;
  double beta2 = 0, eps = 1e-30, gradient_scale = 1;
  void check() const;
  auto fields() const { return std::tie(row, column, gradient); }
};

/// θ ← θ(1 - decay) - rate·u, u_ij = g_ij / sqrt(row_i · column_j / mean_row). The decay is that of this step, its rate included.
struct FactoredStep {
  static constexpr const char* kName = "factored_step";
  View weight;
  ConstView row, column, gradient;
  double rate = 0, decay = 0, mean_row = 1, gradient_scale = 1;
  void check() const;
  auto fields() const { return std::tie(weight, row, column, gradient); }
};

/// Adamw with moments in 8-bit codes of the dynamic map (arXiv 2110.02861): blocks of kCodeBlock elements or fewer, each with a scale. The
/// scale of m is its element of largest magnitude, sign included, so that this element is coded exactly: the signed map has a code for 1,
/// and none for -1. A v above 0 has a code above 0: m / (sqrt(0) + eps) would burst.
struct Adamw8bit {
  static constexpr const char* kName = "adamw_8bit";
  static constexpr const char* kCodes[] = {"m", "v"};  // uint8
  View weight, m, v;
  View m_scale, v_scale;  // [1, blocks], numbered along rows of blocks
  ConstView gradient;
  double rate = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0, correction1 = 1, correction2 = 1, gradient_scale = 1;
  void check() const;
  auto fields() const { return std::tie(weight, m, v, m_scale, v_scale, gradient); }
};

}  // namespace elastiform
