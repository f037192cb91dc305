#include <algorithm>
#include <cmath>

#include "kernels/reference/reference_backend.hpp"

namespace elastiform {
namespace {

double gradient_of(ConstView gradient, double scale, std::int64_t i, std::int64_t j) {
  return gradient.empty() ? 0.0 : scale * gradient.row<double>(i)[j];
}

/// Moves the moments of one element and returns (m/c1) / (sqrt(v/c2) + eps).
template <class Step>
double moved_direction(const Step& op, double& m, double& v, double g) {
  m = op.beta1 * m + (1 - op.beta1) * g;
  v = op.beta2 * v + (1 - op.beta2) * g * g;
  return (m / op.correction1) / (std::sqrt(v / op.correction2) + op.eps);
}

}  // namespace

void ReferenceBackend::do_adamw(const Adamw& op) {
  for (std::int64_t i = 0; i < op.weight.rows; ++i)
    for (std::int64_t j = 0; j < op.weight.columns; ++j) {
      double& weight = op.weight.row<double>(i)[j];
      weight *= 1 - op.rate * op.decay;
      weight -=
          op.rate * moved_direction(op, op.m.row<double>(i)[j], op.v.row<double>(i)[j], gradient_of(op.gradient, op.gradient_scale, i, j));
    }
}

StepSquares ReferenceBackend::do_adamw_direction(const AdamwDirection& op) {
  StepSquares squares;
  for (std::int64_t i = 0; i < op.weight.rows; ++i)
    for (std::int64_t j = 0; j < op.weight.columns; ++j) {
      const double weight = op.weight.row<double>(i)[j];
      double& g = op.gradient.row<double>(i)[j];
      g = op.decay * weight + moved_direction(op, op.m.row<double>(i)[j], op.v.row<double>(i)[j], op.gradient_scale * g);
      squares.weight += weight * weight;
      squares.direction += g * g;
    }
  return squares;
}

void ReferenceBackend::do_momentum_step(const MomentumStep& op) {
  for (std::int64_t i = 0; i < op.weight.rows; ++i)
    for (std::int64_t j = 0; j < op.weight.columns; ++j) {
      double &weight = op.weight.row<double>(i)[j], &m = op.m.row<double>(i)[j];
      const double g = gradient_of(op.gradient, op.gradient_scale, i, j) + op.coupled_decay * weight;
      double direction = op.direction_moment * m + op.direction_gradient * g;
      if (op.sign) direction = direction > 0 ? 1 : direction < 0 ? -1 : 0;
      m = op.keep * m + op.take * g;
      weight = weight * (1 - op.rate * op.decay) - op.rate * direction;
    }
}

void ReferenceBackend::do_factored_moments(const FactoredMoments& op) {
  const std::int64_t n = op.gradient.rows, m = op.gradient.columns;
  const auto square = [&](std::int64_t i, std::int64_t j) {
    const double g = op.gradient_scale * op.gradient.row<double>(i)[j];
    return g * g + op.eps;
  };
  for (std::int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (std::int64_t j = 0; j < m; ++j) sum += square(i, j);
    double& row = op.row.row<double>(0)[i];
    row = op.beta2 * row + (1 - op.beta2) * sum / static_cast<double>(m);
  }
  for (std::int64_t j = 0; j < m; ++j) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += square(i, j);
    double& column = op.column.row<double>(0)[j];
    column = op.beta2 * column + (1 - op.beta2) * sum / static_cast<double>(n);
  }
}

namespace {

double factored_direction(const FactoredStep& op, std::int64_t i, std::int64_t j) {
  const double v = op.row.row<double>(0)[i] / op.mean_row * op.column.row<double>(0)[j];
  return op.gradient_scale * op.gradient.row<double>(i)[j] / std::sqrt(v);
}

}  // namespace

void ReferenceBackend::do_factored_step(const FactoredStep& op) {
  for (std::int64_t i = 0; i < op.weight.rows; ++i)
    for (std::int64_t j = 0; j < op.weight.columns; ++j) {
      double& weight = op.weight.row<double>(i)[j];
      weight = weight * (1 - op.decay) - op.rate * factored_direction(op, i, j);
    }
}

StepSquares ReferenceBackend::do_factored_squares(const FactoredStep& op) {
  StepSquares squares;
  for (std::int64_t i = 0; i < op.weight.rows; ++i)
    for (std::int64_t j = 0; j < op.weight.columns; ++j) {
      const double weight = op.weight.row<double>(i)[j], direction = factored_direction(op, i, j);
      squares.weight += weight * weight;
      squares.direction += direction * direction;
    }
  return squares;
}

// Block by block: moments are decoded, moved as adamw moves them, and coded again by looking for the nearest number.
void ReferenceBackend::do_adamw_8bit(const Adamw8bit& op) {
  const CodeBlocks blocks(op.weight.rows, op.weight.columns);
  for (std::int64_t block = 0; block < blocks.count(); ++block) {
    const std::int64_t top = block / blocks.across * blocks.rows, left = block % blocks.across * blocks.columns;
    const std::int64_t bottom = std::min(top + blocks.rows, op.weight.rows), right = std::min(left + blocks.columns, op.weight.columns);
    double &m_scale = op.m_scale.row<double>(0)[block], &v_scale = op.v_scale.row<double>(0)[block];
    double m_moved[kCodeBlock], v_moved[kCodeBlock], largest_m = 0, largest_v = 0;
    std::int64_t at = 0;
    for (std::int64_t i = top; i < bottom; ++i)
      for (std::int64_t j = left; j < right; ++j, ++at) {
        double& m = m_moved[at] = signed_map()[op.m.row<std::uint8_t>(i)[j]] * m_scale;
        double& v = v_moved[at] = unsigned_map()[op.v.row<std::uint8_t>(i)[j]] * v_scale;
        double& weight = op.weight.row<double>(i)[j];
        weight *= 1 - op.rate * op.decay;
        weight -= op.rate * moved_direction(op, m, v, gradient_of(op.gradient, op.gradient_scale, i, j));
        if (std::abs(m) > std::abs(largest_m) || (m > 0 && m == -largest_m)) largest_m = m;
        largest_v = std::max(largest_v, v);
      }
    m_scale = largest_m, v_scale = largest_v;
    at = 0;
    for (std::int64_t i = top; i < bottom; ++i)
      for (std::int64_t j = left; j < right; ++j, ++at) {
        const int m = largest_m == 0 ? kZeroCode : nearest_code(signed_map(), m_moved[at] / largest_m);
        const int v = v_moved[at] > 0 ? std::max(1, nearest_code(unsigned_map(), v_moved[at] / largest_v)) : 0;
        op.m.row<std::uint8_t>(i)[j] = static_cast<std::uint8_t>(m);
        op.v.row<std::uint8_t>(i)[j] = static_cast<std::uint8_t>(v);
      }
  }
}

}  // namespace elastiform
