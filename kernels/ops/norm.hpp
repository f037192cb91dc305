#pragma once

#include <array>
#include <string_view>
#include <tuple>

#include "kernels/ops/kinds.hpp"
#include "kernels/view.hpp"

namespace elastiform {

/// y[N,C] = x / sqrt(mean_C(x²) + eps) ∘ gain[1,C] (rms, arXiv 1910.07467), or the same after subtracting the mean (layer,
/// 1607.06450; biased variance), + bias[1,C] if given. Keeps rstd[1,N], and mean[1,N] for layer, for backward; both may be empty
/// when no backward follows. Statistics are of the C active channels only. Used inside panels: rstd and mean are the panel's columns.
struct NormForward {
  static constexpr const char* kName = "norm_forward";
  static constexpr std::array<std::string_view, 1> kOperands{"y"};
  View y, rstd, mean;
  ConstView x, gain, bias;
  Norm kind = Norm::rms;
  double eps = 1e-5;
  void check() const;
  auto fields() const { return std::tie(y, rstd, mean, x, gain, bias); }
};

/// dx[N,C] = residual[N,C] + gradient of the norm for upstream dy[N,C]; residual may be empty, or dx itself;
/// dy may be dx too. dgain[1,C] and dbias[1,C]
/// (empty: none) receive (=) this panel's sums; Backend::sum_panels adds them up in a fixed order. Used inside panels.
struct NormBackward {
  static constexpr const char* kName = "norm_backward";
  View dx, dgain, dbias;
  ConstView dy, residual, x, rstd, mean, gain;
  Norm kind = Norm::rms;
  void check() const;
  auto fields() const { return std::tie(dx, dgain, dbias, dy, residual, x, rstd, mean, gain); }
};

/// sum[1,C] += Σ_p partials[p,C], p ascending in a fixed tree; sum[1,1]: of all their elements. Not accumulate: =. Called outside panels.
struct SumPanels {
  static constexpr const char* kName = "sum_panels";
  View sum;
  ConstView partials;
  bool accumulate = true;
  void check() const;
  auto fields() const { return std::tie(sum, partials); }
};

}  // namespace elastiform
