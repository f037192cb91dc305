#include <cmath>
#include <numbers>

#include "kernels/reference/reference_backend.hpp"

namespace elastiform {
namespace {

struct ValueAndSlope {
  double value, slope;
};

ValueAndSlope silu(double x) {
  const double sigmoid = 1 / (1 + std::exp(-x));
  return {x * sigmoid, sigmoid * (1 + x * (1 - sigmoid))};
}

ValueAndSlope gelu(double x, Gelu kind) {
  if (kind == Gelu::erf) {
    const double cdf = 0.5 * std::erfc(-x / std::numbers::sqrt2);  // erfc keeps the left tail, where 1 + erf cancels
    const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
    return {x * cdf, cdf + x * density};
  }
  const double scale = std::sqrt(2 / std::numbers::pi);
  const double t = std::tanh(scale * (x + 0.044715 * x * x * x));
  const double inner_slope = scale * (1 + 3 * 0.044715 * x * x);
  return {0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner_slope};
}

}  // namespace

void ReferenceBackend::do_swiglu_forward(const SwigluForward& op) {
  for (std::int64_t n = 0; n < op.y.rows; ++n)
    for (std::int64_t f = 0; f < op.y.columns; ++f)
      op.y.row<double>(n)[f] = silu(op.gate.row<double>(n)[f]).value * op.up.row<double>(n)[f];
}

void ReferenceBackend::do_swiglu_backward(const SwigluBackward& op) {
  for (std::int64_t n = 0; n < op.dy.rows; ++n) {
    for (std::int64_t f = 0; f < op.dy.columns; ++f) {
      const double dy = op.dy.row<double>(n)[f];  // before the writes: an output may be dy itself
      const double up = op.up.row<double>(n)[f];
      const ValueAndSlope gate = silu(op.gate.row<double>(n)[f]);
      op.dgate.row<double>(n)[f] = dy * up * gate.slope;
      op.dup.row<double>(n)[f] = dy * gate.value;
    }
  }
}

void ReferenceBackend::do_gelu_forward(const GeluForward& op) {
  for (std::int64_t n = 0; n < op.y.rows; ++n)
    for (std::int64_t f = 0; f < op.y.columns; ++f) op.y.row<double>(n)[f] = gelu(op.x.row<double>(n)[f], op.kind).value;
}

void ReferenceBackend::do_gelu_backward(const GeluBackward& op) {
  for (std::int64_t n = 0; n < op.dy.rows; ++n)
    for (std::int64_t f = 0; f < op.dy.columns; ++f)
      op.dx.row<double>(n)[f] = op.dy.row<double>(n)[f] * gelu(op.x.row<double>(n)[f], op.kind).slope;
}

void ReferenceBackend::do_hadamard(const Hadamard& op) {
  for (std::int64_t n = 0; n < op.y.rows; ++n)
    for (std::int64_t f = 0; f < op.y.columns; ++f)
      op.y.row<double>(n)[f] = op.a.row<double>(n)[f] * op.b.row<double>(op.b.rows == 1 ? 0 : n)[f];
}

void ReferenceBackend::do_rope(const Rope& op) {
  const std::int64_t half = op.cosine.columns;
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    const std::int64_t position = (op.first_row + n) % op.period + op.offset;
    const double* cosine = op.cosine.row<double>(position);
    const double* sine = op.sine.row<double>(position);
    for (std::int64_t head = 0; head < op.x.columns; head += 2 * half) {
      double* x = op.x.row<double>(n) + head;
      for (std::int64_t i = 0; i < half; ++i) {
        const double first = x[i], second = x[i + half], turn = op.inverse ? -sine[i] : sine[i];
        x[i] = first * cosine[i] - second * turn;
        x[i + half] = second * cosine[i] + first * turn;
      }
    }
  }
}

void ReferenceBackend::do_embedding_forward(const EmbeddingForward& op) {
  for (std::int64_t n = 0; n < op.y.rows; ++n) {
    const double* token = op.table.row<double>(op.tokens[n]);
    const double* position = op.positions.empty() ? nullptr : op.positions.row<double>(n % op.period + op.offset);
    for (std::int64_t c = 0; c < op.y.columns; ++c) op.y.row<double>(n)[c] = token[c] + (position ? position[c] : 0.0);
  }
}

void ReferenceBackend::do_scatter_rows(const ScatterRows& op) {
  for (std::int64_t n = 0; n < op.x.rows; ++n)
    for (std::int64_t c = 0; c < op.x.columns; ++c) op.y.row<double>(op.rows[n])[c] = op.x.row<double>(n)[c];
}

void ReferenceBackend::do_embedding_backward(const EmbeddingBackward& op) {
  for (std::int64_t n = 0; n < op.dy.rows; ++n) {
    const double* dy = op.dy.row<double>(n);
    for (std::int64_t c = 0; c < op.dy.columns; ++c) {
      op.dtable.row<double>(op.tokens[n])[c] += dy[c];
      if (!op.dpositions.empty()) op.dpositions.row<double>(n % op.period)[c] += dy[c];
    }
  }
}

}  // namespace elastiform
