#include "kernels/reference/reference_backend.hpp"

#include <cmath>

namespace elastiform {

void ReferenceBackend::for_each(std::int64_t count, FunctionRef<void(std::int64_t)> body) {
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

void ReferenceBackend::do_adamw(const Adamw& op) {
  for (std::int64_t i = 0; i < op.weight.rows; ++i) {
    double* weight = op.weight.row<double>(i);
    double* m = op.m.row<double>(i);
    double* v = op.v.row<double>(i);
    const double* gradient = op.gradient.empty() ? nullptr : op.gradient.row<double>(i);
    for (std::int64_t j = 0; j < op.weight.columns; ++j) {
      const double g = gradient ? op.gradient_scale * gradient[j] : 0.0;
      weight[j] *= 1 - op.rate * op.decay;
      m[j] = op.beta1 * m[j] + (1 - op.beta1) * g;
      v[j] = op.beta2 * v[j] + (1 - op.beta2) * g * g;
      weight[j] -= op.rate * (m[j] / op.correction1) / (std::sqrt(v[j] / op.correction2) + op.eps);
    }
  }
}

double ReferenceBackend::do_sum_squares(ConstView x) {
  double sum = 0;
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const double* row = x.row<double>(i);
    for (std::int64_t j = 0; j < x.columns; ++j) sum += row[j] * row[j];
  }
  return sum;
}

}  // namespace elastiform
