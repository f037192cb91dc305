#include "trainers/precision/delayed_scaling.hpp"

#include <algorithm>
#include <cmath>

namespace elastiform {

DelayedScaling::DelayedScaling(std::size_t operands, std::size_t window)
    : window_(window), scales_(operands, 1), history_(operands * window, 0) {}

void DelayedScaling::record(std::size_t operand, double largest, NumberFormat format) {
  const auto first = history_.begin() + static_cast<std::ptrdiff_t>(operand * window_), end = first + static_cast<std::ptrdiff_t>(window_);
  std::move_backward(first, end - 1, end);
  *first = largest;
  const double most = *std::max_element(first, end);
  if (most > 0 && std::isfinite(most)) scales_[operand] = static_cast<double>(limits_of(format).largest) / most;
}

}  // namespace elastiform
