#include "tests/support/near.hpp"

#include <fmt/format.h>

#include <cmath>

namespace elastiform {
namespace {

/// How many times its allowance an element is off; infinity where no allowance could cover it.
double excess(double actual, double expected, const Tolerance& tolerance) {
  if (actual == expected || (std::isnan(actual) && std::isnan(expected))) return 0;
  if (!std::isfinite(actual) || !std::isfinite(expected)) return std::numeric_limits<double>::infinity();
  return std::abs(actual - expected) / (tolerance.relative * std::abs(expected) + tolerance.absolute);
}

}  // namespace

bool Near::match(const Matrix& actual) const {
  if (actual.rows() != expected_.rows() || actual.columns() != expected_.columns()) {
    description_ = fmt::format("has the shape [{},{}]", expected_.rows(), expected_.columns());
    return false;
  }
  double worst = -1;
  for (std::int64_t i = 0; i < actual.rows(); ++i) {
    for (std::int64_t j = 0; j < actual.columns(); ++j) {
      const double e = excess(actual.at(i, j), expected_.at(i, j), tolerance_);
      if (e <= worst) continue;
      worst = e;
      description_ = fmt::format(
          "is near the expected one; worst at [{},{}]: {:.9g}, expected {:.9g}, {:.3g} times the allowance ({:g} relative, {:g} absolute: "
          "{})",
          i, j, actual.at(i, j), expected_.at(i, j), e, tolerance_.relative, tolerance_.absolute, tolerance_.reason);
    }
  }
  return worst <= 1;
}

}  // namespace elastiform
