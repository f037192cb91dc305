#include "kernels/reference/reference_backend.hpp"

namespace elastiform {

void ReferenceBackend::for_each(std::int64_t count, FunctionRef<void(std::int64_t)> body) {
  for (std::int64_t i = 0; i < count; ++i) body(i);
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
