#pragma once

#include "tests/support/matrix.hpp"

namespace elastiform {

/// df/dx by central differences, element by element: f reads x, which is moved by ±h and put back. x is float64.
template <class F>
Matrix finite_difference(Matrix& x, F&& f, double h = 1e-5) {
  Matrix result(x.rows(), x.columns(), x.columns(), DType::float64, 0, kInputMark);
  for (std::int64_t i = 0; i < x.rows(); ++i) {
    for (std::int64_t j = 0; j < x.columns(); ++j) {
      const double here = x.at(i, j);
      x.set(i, j, here + h);
      const double above = f();
      x.set(i, j, here - h);
      const double below = f();
      x.set(i, j, here);
      result.set(i, j, (above - below) / (2 * h));
    }
  }
  return result;
}

/// The same of one element, wherever it stands.
template <class F>
double central_difference(double& x, F&& f, double h = 1e-5) {
  const double here = x;
  x = here + h;
  const double above = f();
  x = here - h;
  const double below = f();
  x = here;
  return (above - below) / (2 * h);
}

}  // namespace elastiform
