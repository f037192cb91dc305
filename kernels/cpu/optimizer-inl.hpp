// Per-target include guard, as Highway asks: this file is read once for every instruction set.
#if defined(ELASTIFORM_OPTIMIZER_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ELASTIFORM_OPTIMIZER_INL_HPP
#undef ELASTIFORM_OPTIMIZER_INL_HPP
#else
#define ELASTIFORM_OPTIMIZER_INL_HPP
#endif

#include <hwy/highway.h>

#include <cmath>

#include "kernels/cpu/vector-inl.hpp"
#include "kernels/ops/optimizer.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {

HWY_INLINE FloatVector constant(double x) { return hn::Set(Float(), static_cast<float>(x)); }

/// Adam's moments of a vector of elements, whatever they are stored as.
class MovedMoments {
 public:
  template <class Step>
  HWY_INLINE explicit MovedMoments(const Step& op)
      : beta1_(constant(op.beta1)), beta2_(constant(op.beta2)), rest1_(constant(1 - op.beta1)), rest2_(constant(1 - op.beta2)),
        scale_(constant(op.gradient_scale)), root_correction_(constant(1 / std::sqrt(op.correction2))), eps_(constant(op.eps)) {}
  HWY_INLINE void move(FloatVector& m, FloatVector& v, FloatVector gradient) const {
    const auto g = hn::Mul(scale_, gradient);
    m = hn::MulAdd(rest1_, g, hn::Mul(beta1_, m));
    v = hn::MulAdd(hn::Mul(rest2_, g), g, hn::Mul(beta2_, v));
  }
  /// sqrt(v/c2) + eps
  HWY_INLINE FloatVector denominator(FloatVector v) const { return hn::MulAdd(hn::Sqrt(v), root_correction_, eps_); }

 private:
  FloatVector beta1_, beta2_, rest1_, rest2_, scale_, root_correction_, eps_;
};

}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
