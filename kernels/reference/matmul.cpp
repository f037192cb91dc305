#include "kernels/reference/reference_backend.hpp"

namespace elastiform {
namespace {

/// w[i,o] of a weight that is stored [I,O], or [O,I] when transposed.
double weight_at(ConstView w, bool transposed, std::int64_t i, std::int64_t o) {
  return transposed ? w.row<double>(o)[i] : w.row<double>(i)[o];
}

}  // namespace

void ReferenceBackend::do_matmul(const Matmul& op) {
  for (std::int64_t n = 0; n < op.y.rows; ++n) {
    double* y = op.y.row<double>(n);
    const double* x = op.x.row<double>(n);
    for (std::int64_t o = 0; o < op.y.columns; ++o) {
      double sum = op.bias.empty() ? 0.0 : op.bias.row<double>(0)[o];
      for (std::int64_t i = 0; i < op.x.columns; ++i) sum += x[i] * weight_at(op.w, op.transposed, i, o);
      y[o] = op.scale * sum + (op.add.empty() ? 0.0 : op.add.row<double>(n)[o]);
    }
  }
}

void ReferenceBackend::do_matmul_dx(const MatmulDx& op) {
  for (std::int64_t n = 0; n < op.dx.rows; ++n) {
    double* dx = op.dx.row<double>(n);
    const double* dy = op.dy.row<double>(n);
    for (std::int64_t i = 0; i < op.dx.columns; ++i) {
      double sum = 0;
      for (std::int64_t o = 0; o < op.dy.columns; ++o) sum += dy[o] * weight_at(op.w, op.transposed, i, o);
      dx[i] = op.scale * sum + (op.add.empty() ? 0.0 : op.add.row<double>(n)[i]);
    }
  }
}

void ReferenceBackend::do_matmul_dw(const MatmulDw& op) {
  for (std::int64_t i = 0; !op.dw.empty() && i < op.x.columns; ++i) {
    for (std::int64_t o = 0; o < op.dy.columns; ++o) {
      double sum = 0;
      for (std::int64_t n = 0; n < op.x.rows; ++n) sum += op.x.row<double>(n)[i] * op.dy.row<double>(n)[o];
      double& dw = op.transposed ? op.dw.row<double>(o)[i] : op.dw.row<double>(i)[o];
      dw = (op.accumulate ? dw : 0) + op.scale * sum;
    }
  }
  if (op.dbias.empty()) return;
  for (std::int64_t o = 0; o < op.dy.columns; ++o) {
    double sum = 0;
    for (std::int64_t n = 0; n < op.dy.rows; ++n) sum += op.dy.row<double>(n)[o];
    double& dbias = op.dbias.row<double>(0)[o];
    dbias = (op.accumulate ? dbias : 0) + op.scale * sum;
  }
}

}  // namespace elastiform
