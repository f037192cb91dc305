#include "supernet/layers/normalize.hpp"

namespace elastiform {
namespace {

template <class V>
V columns_of(V row, Rows r) {
  return row.empty() ? row : row.column_range(r.first, r.count);
}

}  // namespace

void normalize(Backend& backend, const ModelConfig& model, const BasicNormSlice<ConstView>& w, View y, View rstd, View mean, ConstView x,
               Rows r) {
  normalize_panel(backend, model, w, y, rstd, mean, x[r], r);
}

void normalize_panel(Backend& backend, const ModelConfig& model, const BasicNormSlice<ConstView>& w, View y, View rstd, View mean,
                     ConstView x, Rows r) {
  backend.norm_forward({.y = y,
                        .rstd = columns_of(rstd, r),
                        .mean = columns_of(mean, r),
                        .x = x,
                        .gain = w.gain,
                        .bias = w.bias,
                        .kind = model.norm,
                        .eps = model.norm_eps});
}

void normalize_backward(Backend& backend, const ModelConfig& model, const NormGradient& g, Rows r) {
  backend.norm_backward({.dx = g.d[r],
                         .dgain = g.dgain.row_range(r.panel, 1),
                         .dbias = g.dbias.empty() ? g.dbias : g.dbias.row_range(r.panel, 1),
                         .dy = g.dy,
                         .residual = g.residual[r],
                         .x = g.x[r],
                         .rstd = columns_of(g.rstd, r),
                         .mean = columns_of(g.mean, r),
                         .gain = g.gain,
                         .kind = model.norm});
}

void sum_normalize(Backend& backend, const BasicNormSlice<View>& dw, ConstView dgain, ConstView dbias, bool accumulate) {
  if (!dw.gain.empty()) backend.sum_panels({.sum = dw.gain, .partials = dgain, .accumulate = accumulate});
  if (!dw.bias.empty()) backend.sum_panels({.sum = dw.bias, .partials = dbias, .accumulate = accumulate});
}

}  // namespace elastiform
