#pragma once

#include <string>

#include "tests/support/catch.hpp"
#include "tests/support/matrix.hpp"
#include "tests/support/tolerances.hpp"

namespace elastiform {

/// Matches a matrix of the same shape whose elements differ from `expected` by at most relative · |expected| + absolute. NaN matches
/// NaN only, an infinity itself only. A failure names the element that exceeds its allowance most.
class Near : public Catch::MatcherBase<Matrix> {
 public:
  Near(Matrix expected, Tolerance tolerance) : expected_(std::move(expected)), tolerance_(tolerance) {}
  bool match(const Matrix& actual) const override;
  std::string describe() const override { return description_; }

 private:
  Matrix expected_;
  Tolerance tolerance_;
  mutable std::string description_;  // Catch asks for the words after match()
};

inline Near near(Matrix expected, Tolerance tolerance) { return {std::move(expected), tolerance}; }

}  // namespace elastiform
