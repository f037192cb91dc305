#pragma once

#include "kernels/backend.hpp"
#include "supernet/search_space.hpp"
#include "supernet/weight_slice.hpp"

namespace elastiform {

/// y = norm of rows r of x [N, C], as the model has it; keeps rstd and mean [1, N] (mean empty for rms) for backward. Used inside panels.
void normalize(Backend& backend, const ModelConfig& model, const BasicNormSlice<ConstView>& w, View y, View rstd, View mean, ConstView x,
               Rows r);

/// The same where x is the panel's rows alone.
void normalize_panel(Backend& backend, const ModelConfig& model, const BasicNormSlice<ConstView>& w, View y, View rstd, View mean,
                     ConstView x, Rows r);

/// Operands of normalize's backward pass, whole matrices except dy.
struct NormGradient {
  View d;              // [N, C]: receives residual + the gradient at x
  ConstView dy;        // of the panel: the gradient at y
  ConstView residual;  // [N, C], empty: none; may be d
  ConstView x, rstd, mean, gain;
  View dgain, dbias;  // a row a panel; dbias empty: the norm has no bias
};
/// The same for rows r; sum_panels adds the rows of dgain and dbias up afterwards. Used inside panels.
void normalize_backward(Backend& backend, const ModelConfig& model, const NormGradient& g, Rows r);

/// Adds the panels' rows of dgain and dbias up, to what of them learns. Outside panels.
void sum_normalize(Backend& backend, const BasicNormSlice<View>& dw, ConstView dgain, ConstView dbias, bool accumulate);

}  // namespace elastiform
