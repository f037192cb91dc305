#include "kernels/cpu/cpu_backend.hpp"

#include <cmath>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/optimizer-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

void adamw(const Adamw& op) {
  const MovedMoments moved(op);
  const auto shrink = constant(1 - op.rate * op.decay), step = constant(op.rate / op.correction1);
  for (std::int64_t n = 0; n < op.weight.rows; ++n) {
    float *weight = op.weight.row<float>(n), *m = op.m.row<float>(n), *v = op.v.row<float>(n);
    const float* gradient = op.gradient.empty() ? nullptr : op.gradient.row<float>(n);
    for_vectors(op.weight.columns, [&](std::int64_t c, auto access) HWY_ATTR {
      auto first = access.load(m + c), second = access.load(v + c);
      moved.move(first, second, gradient ? access.load(gradient + c) : hn::Zero(Float()));
      access.store(first, m + c);
      access.store(second, v + c);
      const auto shrunk = hn::Mul(shrink, access.load(weight + c));
      access.store(hn::Sub(shrunk, hn::Div(hn::Mul(step, first), moved.denominator(second))), weight + c);
    });
  }
}

StepSquares adamw_direction(const AdamwDirection& op) {
  const MovedMoments moved(op);
  const auto decay = constant(op.decay), root = constant(1 / op.correction1);
  SquareSum weights, directions;
  for (std::int64_t n = 0; n < op.weight.rows; ++n) {
    const float* weight = op.weight.row<float>(n);
    float *m = op.m.row<float>(n), *v = op.v.row<float>(n), *gradient = op.gradient.row<float>(n);
    for_vectors(op.weight.columns, [&](std::int64_t c, auto access) HWY_ATTR {
      auto first = access.load(m + c), second = access.load(v + c);
      moved.move(first, second, access.load(gradient + c));
      access.store(first, m + c);
      access.store(second, v + c);
      const auto old = access.load(weight + c);
      const auto direction = hn::MulAdd(decay, old, hn::Div(hn::Mul(root, first), moved.denominator(second)));
      access.store(direction, gradient + c);
      weights.add(old);
      directions.add(access.keep(direction, hn::Zero(Float())));
    });
  }
  return {.weight = weights.total(), .direction = directions.total()};
}

void momentum_step(const MomentumStep& op) {
  const auto shrink = constant(1 - op.rate * op.decay), rate = constant(op.rate), scale = constant(op.gradient_scale);
  const auto keep = constant(op.keep), take = constant(op.take), coupled = constant(op.coupled_decay);
  const auto of_moment = constant(op.direction_moment), of_gradient = constant(op.direction_gradient);
  const auto zero = hn::Zero(Float()), one = constant(1);
  for (std::int64_t n = 0; n < op.weight.rows; ++n) {
    float *weight = op.weight.row<float>(n), *moment = op.m.row<float>(n);
    const float* gradient = op.gradient.empty() ? nullptr : op.gradient.row<float>(n);
    for_vectors(op.weight.columns, [&](std::int64_t c, auto access) HWY_ATTR {
      const auto old = access.load(weight + c), m = access.load(moment + c);
      const auto g = hn::MulAdd(coupled, old, gradient ? hn::Mul(scale, access.load(gradient + c)) : zero);
      auto direction = hn::MulAdd(of_gradient, g, hn::Mul(of_moment, m));
      if (op.sign) direction = hn::IfThenElse(hn::Eq(direction, zero), zero, hn::CopySign(one, direction));
      access.store(hn::MulAdd(take, g, hn::Mul(keep, m)), moment + c);
      access.store(hn::Sub(hn::Mul(shrink, old), hn::Mul(rate, direction)), weight + c);
    });
  }
}

void add(View to, ConstView from, double factor) {
  const auto part = constant(factor);
  for (std::int64_t n = 0; n < to.rows; ++n) {
    float* sum = to.row<float>(n);
    const float* x = from.row<float>(n);
    for_vectors(to.columns, [&](std::int64_t c, auto access)
                                HWY_ATTR { access.store(hn::MulAdd(part, access.load(x + c), access.load(sum + c)), sum + c); });
  }
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(adamw);
HWY_EXPORT(adamw_direction);
HWY_EXPORT(momentum_step);
HWY_EXPORT(add);

void CpuBackend::do_adamw(const Adamw& op) { HWY_DYNAMIC_DISPATCH(adamw)(op); }
StepSquares CpuBackend::do_adamw_direction(const AdamwDirection& op) { return HWY_DYNAMIC_DISPATCH(adamw_direction)(op); }
void CpuBackend::do_momentum_step(const MomentumStep& op) { HWY_DYNAMIC_DISPATCH(momentum_step)(op); }
void CpuBackend::do_add(View to, ConstView from, double factor) { HWY_DYNAMIC_DISPATCH(add)(to, from, factor); }

}  // namespace elastiform
#endif
