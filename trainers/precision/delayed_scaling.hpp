#pragma once

#include <cstddef>
#include <vector>

#include "kernels/ops/rounding.hpp"

namespace elastiform {

/// Scales of operands in an 8-bit format (arXiv 2209.05433): the format's largest number over the largest magnitude that was seen in the
/// last `window` uses. A window of many steps covers subnets of every size: with the latest step alone a small subnet would set the scale
/// with which a large one overflows. A largest magnitude that is 0 or not finite leaves the scale as it was.
class DelayedScaling {
 public:
  DelayedScaling(std::size_t operands, std::size_t window);
  double scale(std::size_t operand) const { return scales_[operand]; }
  /// The largest magnitude of a use, in which scale() was still the old one.
  void record(std::size_t operand, double largest, NumberFormat format);
  std::vector<double>& scales() { return scales_; }
  std::vector<double>& history() { return history_; }  // of each operand, the latest first
  const std::vector<double>& scales() const { return scales_; }
  const std::vector<double>& history() const { return history_; }

 private:
  std::size_t window_;
  std::vector<double> scales_, history_;
};

}  // namespace elastiform
