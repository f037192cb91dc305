#pragma once

#include <array>
#include <string_view>
#include <tuple>

#include "kernels/view.hpp"

namespace elastiform {

/// y[N,C] = scale · gain ∘ x[N,C] + shift + add[N,C]. gain and shift are [1,C], or [1,1]: one number for all; empty: 1 and 0. An empty add is
/// none; y may be x or add. How branches meet the residual stream, and scalar biases. Used inside panels.
struct AffineForward {
  static constexpr const char* kName = "affine_forward";
  static constexpr std::array<std::string_view, 2> kOperands{"y", "x"};
  View y;
  ConstView x, gain, shift, add;
  double scale = 1;
  void check() const;
  auto fields() const { return std::tie(y, x, gain, shift, add); }
};

/// dx[N,C] = scale · gain ∘ dy[N,C] + add[N,C]; dx may be dy or add, or empty. dgain[1,C] = scale · Σ_rows x ∘ dy and dshift[1,C] = Σ_rows dy
/// (empty: none) receive this panel's sums, of single numbers too: Backend::sum_panels adds up panels, and columns where there is one
/// number for all. x is read for dgain only. Used inside panels.
struct AffineBackward {
  static constexpr const char* kName = "affine_backward";
  static constexpr std::array<std::string_view, 1> kOperands{"dy"};
  View dx, dgain, dshift;
  ConstView dy, x, gain, add;
  double scale = 1;
  void check() const;
  auto fields() const { return std::tie(dx, dgain, dshift, dy, x, gain, add); }
};

}  // namespace elastiform
