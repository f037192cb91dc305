#include "kernels/cpu/cpu_backend.hpp"

#include <numbers>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

template <class T>
void swiglu_forward_rows(const SwigluForward& op) {
  for (std::int64_t n = 0; n < op.y.rows; ++n) {
    const T *gate = op.gate.row<T>(n), *up = op.up.row<T>(n);
    T* y = op.y.row<T>(n);
    for_vectors(op.y.columns, [&](std::int64_t c, auto access) HWY_ATTR {
      const auto g = access.load(gate + c);
      access.store(hn::Mul(hn::Mul(g, sigmoid(g)), access.load(up + c)), y + c);
    });
  }
}

template <class T>
void swiglu_backward_rows(const SwigluBackward& op) {
  for (std::int64_t n = 0; n < op.dy.rows; ++n) {
    const T *dy = op.dy.row<T>(n), *gate = op.gate.row<T>(n), *up = op.up.row<T>(n);
    T *dgate = op.dgate.row<T>(n), *dup = op.dup.row<T>(n);
    for_vectors(op.dy.columns, [&](std::int64_t c, auto access) HWY_ATTR {
      const auto upstream = access.load(dy + c), g = access.load(gate + c), u = access.load(up + c);
      const auto s = sigmoid(g), silu = hn::Mul(g, s);
      const auto slope = hn::MulAdd(silu, hn::Sub(constant(1), s), s);
      access.store(hn::Mul(upstream, silu), dup + c);
      access.store(hn::Mul(hn::Mul(upstream, u), slope), dgate + c);
    });
  }
}

constexpr double kRootTwoOverPi = 0.797884560802865356, kCubic = 0.044715;

/// 2u with u = √(2/π)·(x + 0.044715x³): (1 + tanh u)/2 = sigmoid(2u), one exp and one division.
HWY_INLINE FloatVector twice_inner(FloatVector x) {
  return hn::Mul(x, hn::MulAdd(hn::Mul(x, x), constant(2 * kRootTwoOverPi * kCubic), constant(2 * kRootTwoOverPi)));
}

HWY_INLINE FloatVector gelu(FloatVector x, Gelu kind) {
  FloatVector gaussian;
  return hn::Mul(x, kind == Gelu::tanh ? sigmoid(twice_inner(x)) : normal_cdf(x, gaussian));
}

HWY_INLINE FloatVector gelu_slope(FloatVector x, Gelu kind) {
  if (kind == Gelu::erf) {
    FloatVector gaussian;
    const auto cdf = normal_cdf(x, gaussian);
    return hn::MulAdd(hn::Mul(x, constant(0.5 * std::numbers::inv_sqrtpi * std::numbers::sqrt2)), gaussian, cdf);
  }
  const auto s = sigmoid(twice_inner(x));
  // Beyond |x| = 100 the product below is 0 whatever this is, as long as it is finite.
  const auto square = hn::Min(hn::Mul(x, x), constant(1e4));
  const auto inner_slope = hn::MulAdd(square, constant(6 * kRootTwoOverPi * kCubic), constant(2 * kRootTwoOverPi));
  return hn::MulAdd(hn::Mul(hn::Mul(s, hn::Sub(constant(1), s)), x), inner_slope, s);
}

template <class T>
void gelu_forward_rows(const GeluForward& op) {
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    const T* x = op.x.row<T>(n);
    T* y = op.y.row<T>(n);
    for_vectors(op.x.columns, [&](std::int64_t c, auto access) HWY_ATTR { access.store(gelu(access.load(x + c), op.kind), y + c); });
  }
}

template <class T>
void gelu_backward_rows(const GeluBackward& op) {
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    const T *x = op.x.row<T>(n), *dy = op.dy.row<T>(n);
    T* dx = op.dx.row<T>(n);
    for_vectors(op.x.columns, [&](std::int64_t c, auto access) HWY_ATTR {
      access.store(hn::Mul(access.load(dy + c), gelu_slope(access.load(x + c), op.kind)), dx + c);
    });
  }
}

template <class T>
void hadamard_rows(const Hadamard& op) {
  for (std::int64_t n = 0; n < op.y.rows; ++n) {
    const T* a = op.a.row<T>(n);
    const float* b = op.b.row<float>(op.b.rows == 1 ? 0 : n);
    float* y = op.y.row<float>(n);
    for_vectors(op.y.columns,
                [&](std::int64_t c, auto access) HWY_ATTR { access.store(hn::Mul(access.load(a + c), access.load(b + c)), y + c); });
  }
}

template <class T>
void rope_rows(const Rope& op) {
  const std::int64_t half = op.cosine.columns;
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    const std::int64_t position = (op.first_row + n) % op.period + op.offset;
    const float *cosine = op.cosine.row<float>(position), *sine = op.sine.row<float>(position);
    const auto sign = constant(op.inverse ? -1 : 1);
    for (std::int64_t column = 0; column < op.x.columns; column += 2 * half) {
      T* head = op.x.row<T>(n) + column;
      for_vectors(half, [&](std::int64_t c, auto access) HWY_ATTR {
        const auto a = access.load(head + c), b = access.load(head + half + c);
        const auto cos = access.load(cosine + c), sin = hn::Mul(sign, access.load(sine + c));
        access.store(hn::NegMulAdd(b, sin, hn::Mul(a, cos)), head + c);
        access.store(hn::MulAdd(a, sin, hn::Mul(b, cos)), head + half + c);
      });
    }
  }
}

void swiglu_forward(const SwigluForward& op) {
  op.y.dtype == DType::bfloat16 ? swiglu_forward_rows<BFloat16>(op) : swiglu_forward_rows<float>(op);
}
void swiglu_backward(const SwigluBackward& op) {
  op.dy.dtype == DType::bfloat16 ? swiglu_backward_rows<BFloat16>(op) : swiglu_backward_rows<float>(op);
}
void gelu_forward(const GeluForward& op) { op.x.dtype == DType::bfloat16 ? gelu_forward_rows<BFloat16>(op) : gelu_forward_rows<float>(op); }
void gelu_backward(const GeluBackward& op) {
  op.x.dtype == DType::bfloat16 ? gelu_backward_rows<BFloat16>(op) : gelu_backward_rows<float>(op);
}
void hadamard(const Hadamard& op) { op.a.dtype == DType::bfloat16 ? hadamard_rows<BFloat16>(op) : hadamard_rows<float>(op); }
void rope(const Rope& op) { op.x.dtype == DType::bfloat16 ? rope_rows<BFloat16>(op) : rope_rows<float>(op); }

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(swiglu_forward);
HWY_EXPORT(swiglu_backward);
HWY_EXPORT(gelu_forward);
HWY_EXPORT(gelu_backward);
HWY_EXPORT(hadamard);
HWY_EXPORT(rope);

void CpuBackend::do_swiglu_forward(const SwigluForward& op) { HWY_DYNAMIC_DISPATCH(swiglu_forward)(op); }
void CpuBackend::do_swiglu_backward(const SwigluBackward& op) { HWY_DYNAMIC_DISPATCH(swiglu_backward)(op); }
void CpuBackend::do_gelu_forward(const GeluForward& op) { HWY_DYNAMIC_DISPATCH(gelu_forward)(op); }
void CpuBackend::do_gelu_backward(const GeluBackward& op) { HWY_DYNAMIC_DISPATCH(gelu_backward)(op); }
void CpuBackend::do_hadamard(const Hadamard& op) { HWY_DYNAMIC_DISPATCH(hadamard)(op); }
void CpuBackend::do_rope(const Rope& op) { HWY_DYNAMIC_DISPATCH(rope)(op); }

}  // namespace elastiform
#endif
