#include "kernels/reference/reference_backend.hpp"

namespace elastiform {
namespace {

/// Column c of a vector, or of one number for all.
double broadcast(ConstView v, std::int64_t c, double absent) { return v.empty() ? absent : v.row<double>(0)[v.columns == 1 ? 0 : c]; }

}  // namespace

void ReferenceBackend::do_affine_forward(const AffineForward& op) {
  for (std::int64_t n = 0; n < op.y.rows; ++n)
    for (std::int64_t c = 0; c < op.y.columns; ++c)
      op.y.row<double>(n)[c] = op.scale * broadcast(op.gain, c, 1) * op.x.row<double>(n)[c] + broadcast(op.shift, c, 0) +
                               (op.add.empty() ? 0.0 : op.add.row<double>(n)[c]);
}

void ReferenceBackend::do_affine_backward(const AffineBackward& op) {
  for (std::int64_t c = 0; c < op.dy.columns; ++c) {
    double dgain = 0, dshift = 0;
    for (std::int64_t n = 0; n < op.dy.rows; ++n) {
      const double dy = op.dy.row<double>(n)[c];  // before the write: dx may be dy itself
      if (!op.dgain.empty()) dgain += op.scale * op.x.row<double>(n)[c] * dy;
      dshift += dy;
      if (!op.dx.empty())
        op.dx.row<double>(n)[c] = op.scale * broadcast(op.gain, c, 1) * dy + (op.add.empty() ? 0.0 : op.add.row<double>(n)[c]);
    }
    if (!op.dgain.empty()) op.dgain.row<double>(0)[c] = dgain;
    if (!op.dshift.empty()) op.dshift.row<double>(0)[c] = dshift;
  }
}

}  // namespace elastiform
