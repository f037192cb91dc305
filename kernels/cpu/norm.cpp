#include "kernels/cpu/cpu_backend.hpp"

#include <cmath>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

/// Σ term(column, access) over n columns in four independent chains of vectors, added in a fixed order.
template <class Term>
HWY_INLINE float sum_columns(std::int64_t n, const Term& term) {
  const Float d;
  const std::int64_t step = lanes();
  FloatVector sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  std::int64_t c = 0;
  for (; c + 4 * step <= n; c += 4 * step)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sums[i] = hn::Add(sums[i], term(c + i * step, Whole{}));
  for_vectors(n - c, [&](std::int64_t at, auto access) HWY_ATTR { sums[0] = hn::Add(sums[0], term(c + at, access)); });
  return sum_of_lanes(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

struct Statistics {
  float mean = 0, rstd = 0;
};

Statistics statistics(const float* x, std::int64_t C, Norm kind, double eps) {
  Statistics result;
  if (kind == Norm::layer) {
    const float sum = sum_columns(C, [&](std::int64_t c, auto access) HWY_ATTR { return access.load(x + c); });
    result.mean = static_cast<float>(static_cast<double>(sum) / static_cast<double>(C));
  }
  // The mean is subtracted before squaring: E[x²] - E[x]² would cancel.
  const auto mean = hn::Set(Float(), result.mean);
  const float squares = sum_columns(C, [&](std::int64_t c, auto access) HWY_ATTR {
    const auto centred = access.keep(hn::Sub(access.load(x + c), mean), hn::Zero(Float()));
    return hn::Mul(centred, centred);
  });
  result.rstd = static_cast<float>(1 / std::sqrt(static_cast<double>(squares) / static_cast<double>(C) + eps));
  return result;
}

template <class T>
void norm_rows(const NormForward& op) {
  const Float d;
  const std::int64_t C = op.x.columns;
  const float* gain = op.gain.row<float>(0);
  const float* bias = op.bias.empty() ? nullptr : op.bias.row<float>(0);
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    const float* x = op.x.row<float>(n);
    T* y = op.y.row<T>(n);
    const Statistics s = statistics(x, C, op.kind, op.eps);
    const auto mean = hn::Set(d, s.mean), rstd = hn::Set(d, s.rstd);
    for_vectors(C, [&](std::int64_t c, auto access) HWY_ATTR {
      auto v = hn::Mul(hn::Mul(hn::Sub(access.load(x + c), mean), rstd), access.load(gain + c));
      if (bias) v = hn::Add(v, access.load(bias + c));
      access.store(v, y + c);
    });
    if (!op.rstd.empty()) op.rstd.row<float>(0)[n] = s.rstd;
    if (!op.mean.empty()) op.mean.row<float>(0)[n] = s.mean;
  }
}

void norm_forward(const NormForward& op) { op.y.dtype == DType::bfloat16 ? norm_rows<BFloat16>(op) : norm_rows<float>(op); }

/// dx = residual + rstd · (g - mean(g) - x̂ · mean(g ∘ x̂)) with g = dy ∘ gain; rms has no mean(g).
void input_gradient(const NormBackward& op, std::int64_t n, FloatVector mean, FloatVector rstd) {
  const Float d;
  const std::int64_t C = op.x.columns;
  const float *x = op.x.row<float>(n), *dy = op.dy.row<float>(n), *gain = op.gain.row<float>(0);
  const float* residual = op.residual.empty() ? nullptr : op.residual.row<float>(n);
  float* dx = op.dx.row<float>(n);
  const auto normalized = [&](std::int64_t c, const auto& access) HWY_ATTR { return hn::Mul(hn::Sub(access.load(x + c), mean), rstd); };
  const auto gradient = [&](std::int64_t c, const auto& access) HWY_ATTR { return hn::Mul(access.load(dy + c), access.load(gain + c)); };
  const float dot =
      sum_columns(C, [&](std::int64_t c, auto access) HWY_ATTR { return hn::Mul(gradient(c, access), normalized(c, access)); });
  const float sum = op.kind == Norm::rms ? 0.0f : sum_columns(C, [&](std::int64_t c, auto access) HWY_ATTR { return gradient(c, access); });
  const auto mean_dot = hn::Set(d, dot / static_cast<float>(C)), mean_sum = hn::Set(d, sum / static_cast<float>(C));
  for_vectors(C, [&](std::int64_t c, auto access) HWY_ATTR {
    auto v = hn::Sub(gradient(c, access), mean_sum);
    v = hn::Mul(rstd, hn::NegMulAdd(normalized(c, access), mean_dot, v));
    if (residual) v = hn::Add(access.load(residual + c), v);
    access.store(v, dx + c);
  });
}

void norm_backward(const NormBackward& op) {
  const Float d;
  const std::int64_t C = op.x.columns;
  float* dgain = op.dgain.empty() ? nullptr : op.dgain.row<float>(0);
  float* dbias = op.dbias.empty() ? nullptr : op.dbias.row<float>(0);
  for (std::int64_t c = 0; c < C; ++c) {
    if (dgain) dgain[c] = 0;
    if (dbias) dbias[c] = 0;
  }
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    const auto rstd = hn::Set(d, op.rstd.row<float>(0)[n]);
    const auto mean = op.kind == Norm::layer ? hn::Set(d, op.mean.row<float>(0)[n]) : hn::Zero(d);
    const float *x = op.x.row<float>(n), *dy = op.dy.row<float>(n);
    if (dgain)  // before dx is written: dx may be dy's memory
      for_vectors(C, [&](std::int64_t c, auto access) HWY_ATTR {
        const auto upstream = access.load(dy + c);
        const auto normalized = hn::Mul(hn::Sub(access.load(x + c), mean), rstd);
        access.store(hn::MulAdd(upstream, normalized, access.load(dgain + c)), dgain + c);
      });
    if (dbias)
      for_vectors(
          C, [&](std::int64_t c, auto access) HWY_ATTR { access.store(hn::Add(access.load(dbias + c), access.load(dy + c)), dbias + c); });
    input_gradient(op, n, mean, rstd);
  }
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(norm_forward);
HWY_EXPORT(norm_backward);

void CpuBackend::do_norm_forward(const NormForward& op) { HWY_DYNAMIC_DISPATCH(norm_forward)(op); }
void CpuBackend::do_norm_backward(const NormBackward& op) { HWY_DYNAMIC_DISPATCH(norm_backward)(op); }

}  // namespace elastiform
#endif
