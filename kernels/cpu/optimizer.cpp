#include "kernels/cpu/cpu_backend.hpp"

#include <cmath>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

void adamw(const Adamw& op) {
  const Float d;
  const auto constant = [&](double x) HWY_ATTR { return hn::Set(d, static_cast<float>(x)); };
  const auto shrink = constant(1 - op.rate * op.decay), step = constant(op.rate / op.correction1);
  const auto root_correction = constant(1 / std::sqrt(op.correction2)), eps = constant(op.eps);
  const auto beta1 = constant(op.beta1), beta2 = constant(op.beta2), rest1 = constant(1 - op.beta1), rest2 = constant(1 - op.beta2);
  const auto scale = constant(op.gradient_scale);
  for (std::int64_t n = 0; n < op.weight.rows; ++n) {
    float *weight = op.weight.row<float>(n), *m = op.m.row<float>(n), *v = op.v.row<float>(n);
    const float* gradient = op.gradient.empty() ? nullptr : op.gradient.row<float>(n);
    for_vectors(op.weight.columns, [&](std::int64_t c, auto access) HWY_ATTR {
      auto first = hn::Mul(beta1, access.load(m + c)), second = hn::Mul(beta2, access.load(v + c));
      if (gradient) {
        const auto g = hn::Mul(scale, access.load(gradient + c));
        first = hn::MulAdd(rest1, g, first);
        second = hn::MulAdd(hn::Mul(rest2, g), g, second);
      }
      access.store(first, m + c);
      access.store(second, v + c);
      const auto denominator = hn::MulAdd(hn::Sqrt(second), root_correction, eps);
      const auto shrunk = hn::Mul(shrink, access.load(weight + c));
      access.store(hn::Sub(shrunk, hn::Div(hn::Mul(step, first), denominator)), weight + c);
    });
  }
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(adamw);

void CpuBackend::do_adamw(const Adamw& op) { HWY_DYNAMIC_DISPATCH(adamw)(op); }

}  // namespace elastiform
#endif
