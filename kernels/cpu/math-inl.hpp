// Per-target include guard, as Highway asks: this file is read once for every instruction set.
#if defined(ELASTIFORM_MATH_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ELASTIFORM_MATH_INL_HPP
#undef ELASTIFORM_MATH_INL_HPP
#else
#define ELASTIFORM_MATH_INL_HPP
#endif

#include <limits>

#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {

HWY_INLINE FloatVector constant(double x) { return hn::Set(Float(), static_cast<float>(x)); }

/// e^x for x ≤ 88.72 (above: not meaningful); 0 below -87.3365, where results would be denormal. NaN stays NaN. 1.1 ulp with fused
/// multiply-add: x = n·ln2 + r in two fused steps, 1 + r + r²·q(r) with q of degree 4 fitted on |r| ≤ ln2/2 to 0.2 ulp.
HWY_INLINE FloatVector exp_bounded(FloatVector x) {
  const Float d;
  const hn::RebindToSigned<Float> di;
  // Adding 1.5·2^23 leaves round(x/ln2) in the low bits of t; shifted into the exponent field they are the factor 2^n.
  const auto magic = constant(0x1.8p23);
  const auto t = hn::MulAdd(x, constant(1.44269504088896341), magic);
  const auto n = hn::Sub(t, magic);
  auto r = hn::NegMulAdd(n, constant(0.693359375), x);
  r = hn::NegMulAdd(n, constant(-2.12194440054690583e-4), r);
  auto q = hn::MulAdd(r, constant(0.00139261836), constant(0.00836317905));
  q = hn::MulAdd(q, r, constant(0.0416665546));
  q = hn::MulAdd(q, r, constant(0.16666577));
  q = hn::MulAdd(q, r, constant(0.5));
  const auto p = hn::MulAdd(hn::Mul(r, r), q, hn::Add(constant(1), r));
  const auto bits = hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, t)));
  return hn::IfThenZeroElse(hn::Lt(x, constant(-87.3365)), hn::BitCast(d, bits));
}

/// As exp_bounded, and infinity above 88.7228.
HWY_INLINE FloatVector exp(FloatVector x) {
  return hn::IfThenElse(hn::Gt(x, constant(88.7228)), constant(std::numeric_limits<float>::infinity()), exp_bounded(x));
}

/// 1 / (1 + e^-x).
HWY_INLINE FloatVector sigmoid(FloatVector x) { return hn::Div(constant(1), hn::Add(constant(1), exp(hn::Neg(x)))); }

/// The standard normal's distribution function Φ(x), relative error below 5e-7 + x²·3e-8 also in the lower tail. e^(-x²/2) is returned
/// as well. With t = |x|/√2: erfc(t) = e^(-t²)·s·p(s), s = 1/(1 + 0.33t), p of degree 9 fitted on t ≤ 10 to 0.14 ulp.
HWY_INLINE FloatVector normal_cdf(FloatVector x, FloatVector& gaussian) {
  const auto t = hn::Mul(hn::Abs(x), constant(0.707106781186547524));
  const auto s = hn::Div(constant(1), hn::MulAdd(t, constant(0.33), constant(1)));
  constexpr double kCoefficients[10] = {0.186135788, 0.187186913,  0.166602693, 0.206917892,  -0.0494686278,
                                        0.496593682, -0.554205353, 0.622630219, -0.321450594, 0.0590573879};
  auto p = constant(kCoefficients[9]);
#pragma GCC unroll 16
  for (int i = 8; i >= 0; --i) p = hn::MulAdd(p, s, constant(kCoefficients[i]));
  gaussian = exp_bounded(hn::Mul(hn::Mul(x, x), constant(-0.5)));
  const auto upper = hn::Mul(hn::Mul(constant(0.5), gaussian), hn::Mul(s, p));  // 1 - Φ(|x|)
  return hn::IfThenElse(hn::Lt(x, constant(0)), upper, hn::Sub(constant(1), upper));
}

}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
