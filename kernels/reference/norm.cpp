#include <cmath>
#include <vector>

#include "kernels/reference/reference_backend.hpp"

namespace elastiform {

void ReferenceBackend::do_norm_forward(const NormForward& op) {
  const std::int64_t C = op.x.columns;
  const double* gain = op.gain.row<double>(0);
  const double* bias = op.bias.empty() ? nullptr : op.bias.row<double>(0);
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    const double* x = op.x.row<double>(n);
    double mean = 0;
    if (op.kind == Norm::layer) {
      for (std::int64_t c = 0; c < C; ++c) mean += x[c];
      mean /= static_cast<double>(C);
    }
    double variance = 0;
    for (std::int64_t c = 0; c < C; ++c) variance += (x[c] - mean) * (x[c] - mean);
    const double rstd = 1 / std::sqrt(variance / static_cast<double>(C) + op.eps);
    double* y = op.y.row<double>(n);
    for (std::int64_t c = 0; c < C; ++c) y[c] = (x[c] - mean) * rstd * gain[c] + (bias ? bias[c] : 0.0);
    if (!op.rstd.empty()) op.rstd.row<double>(0)[n] = rstd;
    if (op.kind == Norm::layer && !op.mean.empty()) op.mean.row<double>(0)[n] = mean;
  }
}

void ReferenceBackend::do_norm_backward(const NormBackward& op) {
  const std::int64_t C = op.x.columns;
  const double* gain = op.gain.row<double>(0);
  std::vector<double> dgain(C), dbias(C), normed(C), upstream(C);
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    const double* x = op.x.row<double>(n);
    const double* dy = op.dy.row<double>(n);
    const double rstd = op.rstd.row<double>(0)[n];
    const double mean = op.kind == Norm::layer ? op.mean.row<double>(0)[n] : 0.0;
    double mean_upstream = 0, mean_product = 0;
    for (std::int64_t c = 0; c < C; ++c) {
      normed[c] = (x[c] - mean) * rstd;
      upstream[c] = dy[c] * gain[c];
      dgain[c] += dy[c] * normed[c];
      dbias[c] += dy[c];
      mean_upstream += upstream[c] / static_cast<double>(C);
      mean_product += upstream[c] * normed[c] / static_cast<double>(C);
    }
    if (op.kind == Norm::rms) mean_upstream = 0;  // no mean was subtracted, so none comes back
    double* dx = op.dx.row<double>(n);
    for (std::int64_t c = 0; c < C; ++c)
      dx[c] = (op.residual.empty() ? 0.0 : op.residual.row<double>(n)[c]) + rstd * (upstream[c] - mean_upstream - normed[c] * mean_product);
  }
  for (std::int64_t c = 0; c < C; ++c) {
    if (!op.dgain.empty()) op.dgain.row<double>(0)[c] = dgain[c];
    if (!op.dbias.empty()) op.dbias.row<double>(0)[c] = dbias[c];
  }
}

void ReferenceBackend::do_sum_panels(const SumPanels& op) {
  const std::int64_t width = op.partials.columns / op.sum.columns;  // of partials that one sum takes: 1, or all
  for (std::int64_t c = 0; c < op.sum.columns; ++c) {
    double sum = 0;
    for (std::int64_t p = 0; p < op.partials.rows; ++p)
      for (std::int64_t i = 0; i < width; ++i) sum += op.partials.row<double>(p)[c * width + i];
    op.sum.row<double>(0)[c] = (op.accumulate ? op.sum.row<double>(0)[c] : 0) + sum;
  }
}

}  // namespace elastiform
