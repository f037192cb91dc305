#pragma once

#include <limits>

namespace elastiform {

/// Estimates from gradients of two batch sizes (arXiv 1812.06162, A.1), a micro-batch's and a step's: ‖G‖² of the true gradient, and the
/// trace of the covariance of one sequence's gradient.
struct GradientNoise {
  double signal = 0, trace = 0;

  /// Sequences of a batch whose noise is as large as its gradient; far above it, more sequences a step save few steps. NaN: no estimate
  /// yet. Estimates are differences, so early ones may be negative.
  double scale() const { return signal > 0 && trace >= 0 ? trace / signal : std::numeric_limits<double>::quiet_NaN(); }
  /// A step's estimate joins the average over steps: one by itself is mostly noise.
  void add(const GradientNoise& step) {
    constexpr double kKept = 0.95;
    signal = kKept * signal + (1 - kKept) * step.signal;
    trace = kKept * trace + (1 - kKept) * step.trace;
  }
};

/// From ‖g‖² of batches of `small` sequences (their mean) and of one of `large`.
inline GradientNoise gradient_noise(double small_square, double large_square, double small, double large) {
  return {(large * large_square - small * small_square) / (large - small), (small_square - large_square) / (1 / small - 1 / large)};
}

}  // namespace elastiform
