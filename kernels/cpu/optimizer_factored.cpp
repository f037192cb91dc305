#include "kernels/cpu/cpu_backend.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer_factored.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/optimizer-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kStrip = 512, kChunk = 128;  // columns whose sums stay in L1; rows whose sums are added in float32

/// Strip by strip, so that a gradient is read once: sums of rows grow from strip to strip, those of the strip's columns from row to row.
void factored_moments(const FactoredMoments& op) {
  const std::int64_t rows = op.gradient.rows, columns = op.gradient.columns;
  float *row_moments = op.row.row<float>(0), *column_moments = op.column.row<float>(0);
  const float row_part = static_cast<float>((1 - op.beta2) / static_cast<double>(columns));
  const float column_part = static_cast<float>((1 - op.beta2) / static_cast<double>(rows)), beta2 = static_cast<float>(op.beta2);
  const float eps = static_cast<float>((1 - op.beta2) * op.eps);
  const auto scale = constant(op.gradient_scale);
  for (std::int64_t first = 0; first < columns; first += kStrip) {
    const std::int64_t width = std::min(kStrip, columns - first);
    float chunk[kStrip], total[kStrip] = {};
    for (std::int64_t top = 0; top < rows; top += kChunk) {
      std::fill(chunk, chunk + width, 0.0f);
      for (std::int64_t n = top; n < std::min(top + kChunk, rows); ++n) {
        const float* gradient = op.gradient.row<float>(n) + first;
        auto row = hn::Zero(Float());
        for_vectors(width, [&](std::int64_t c, auto access) HWY_ATTR {
          const auto g = hn::Mul(scale, access.load(gradient + c)), square = hn::Mul(g, g);
          row = hn::Add(row, square);
          access.store(hn::Add(access.load(chunk + c), square), chunk + c);
        });
        const float kept = first == 0 ? beta2 * row_moments[n] + eps : row_moments[n];
        row_moments[n] = kept + row_part * sum_of_lanes(row);
      }
      for (std::int64_t c = 0; c < width; ++c) total[c] += chunk[c];
    }
    for (std::int64_t c = 0; c < width; ++c) column_moments[first + c] = beta2 * column_moments[first + c] + eps + column_part * total[c];
  }
}

/// gradient_scale / sqrt(row_i / mean_row)
FloatVector row_factor(const FactoredStep& op, std::int64_t n) {
  return constant(op.gradient_scale / std::sqrt(static_cast<double>(op.row.row<float>(0)[n]) / op.mean_row));
}

/// body(weights of a row, a vector of its u, access), strip by strip: a column's 1 / sqrt(column_j) serves all rows.
template <class Body>
HWY_INLINE void for_directions(const FactoredStep& op, const Body& body) {
  float factors[kStrip];
  for (std::int64_t first = 0; first < op.weight.columns; first += kStrip) {
    const std::int64_t width = std::min(kStrip, op.weight.columns - first);
    const float* column = op.column.row<float>(0) + first;
    for_vectors(width, [&](std::int64_t c, auto access)
                           HWY_ATTR { access.store(hn::Div(constant(1), hn::Sqrt(access.load(column + c))), factors + c); });
    for (std::int64_t n = 0; n < op.weight.rows; ++n) {
      float* weight = op.weight.row<float>(n) + first;
      const float* gradient = op.gradient.row<float>(n) + first;
      const auto row = row_factor(op, n);
      for_vectors(width, [&](std::int64_t c, auto access) HWY_ATTR {
        body(weight + c, hn::Mul(hn::Mul(row, access.load(factors + c)), access.load(gradient + c)), access);
      });
    }
  }
}

void factored_step(const FactoredStep& op) {
  const auto shrink = constant(1 - op.decay), rate = constant(op.rate);
  for_directions(op, [&](float* weight, FloatVector u, auto access)
                         HWY_ATTR { access.store(hn::NegMulAdd(rate, u, hn::Mul(shrink, access.load(weight))), weight); });
}

StepSquares factored_squares(const FactoredStep& op) {
  SquareSum weights, directions;
  for_directions(op, [&](float* weight, FloatVector u, auto access) HWY_ATTR {
    weights.add(access.load(weight));
    directions.add(access.keep(u, hn::Zero(Float())));
  });
  return {.weight = weights.total(), .direction = directions.total()};
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(factored_moments);
HWY_EXPORT(factored_step);
HWY_EXPORT(factored_squares);

void CpuBackend::do_factored_moments(const FactoredMoments& op) { HWY_DYNAMIC_DISPATCH(factored_moments)(op); }
void CpuBackend::do_factored_step(const FactoredStep& op) { HWY_DYNAMIC_DISPATCH(factored_step)(op); }
StepSquares CpuBackend::do_factored_squares(const FactoredStep& step) { return HWY_DYNAMIC_DISPATCH(factored_squares)(step); }

}  // namespace elastiform
#endif
