#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/affine.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

/// A vector along the columns, or one number for all of them.
class Broadcast {
 public:
  HWY_INLINE Broadcast(ConstView view, float absent)
      : each_(view.empty() || view.columns == 1 ? nullptr : view.row<float>(0)), all_(view.empty() ? absent : view.row<float>(0)[0]) {}
  template <class Access>
  HWY_INLINE FloatVector at(std::int64_t c, const Access& access) const {
    return each_ ? access.load(each_ + c) : hn::Set(Float(), all_);
  }

 private:
  const float* each_;
  float all_;
};

template <class Y, class X>
void forward_rows(const AffineForward& op) {
  const Broadcast gain(op.gain, 1), shift(op.shift, 0);
  const auto scale = hn::Set(Float(), static_cast<float>(op.scale));
  for (std::int64_t n = 0; n < op.y.rows; ++n) {
    const X* x = op.x.row<X>(n);
    const float* add = op.add.empty() ? nullptr : op.add.row<float>(n);
    Y* y = op.y.row<Y>(n);
    for_vectors(op.y.columns, [&](std::int64_t c, auto access) HWY_ATTR {
      auto v = hn::Add(hn::Mul(hn::Mul(scale, gain.at(c, access)), access.load(x + c)), shift.at(c, access));
      if (add) v = hn::Add(v, access.load(add + c));
      access.store(v, y + c);
    });
  }
}

template <class T>
void backward_rows(const AffineBackward& op) {
  const std::int64_t C = op.dy.columns;
  const Broadcast gain(op.gain, 1);
  const auto scale = hn::Set(Float(), static_cast<float>(op.scale));
  float* dgain = op.dgain.empty() ? nullptr : op.dgain.row<float>(0);
  float* dshift = op.dshift.empty() ? nullptr : op.dshift.row<float>(0);
  for (std::int64_t c = 0; c < C; ++c) {
    if (dgain) dgain[c] = 0;
    if (dshift) dshift[c] = 0;
  }
  for (std::int64_t n = 0; n < op.dy.rows; ++n) {
    const T* dy = op.dy.row<T>(n);
    const float* x = dgain ? op.x.row<float>(n) : nullptr;
    const float* add = op.add.empty() ? nullptr : op.add.row<float>(n);
    float* dx = op.dx.empty() ? nullptr : op.dx.row<float>(n);
    for_vectors(C, [&](std::int64_t c, auto access) HWY_ATTR {
      const auto upstream = access.load(dy + c);  // before dx is written: it may be dy's memory
      const auto scaled = hn::Mul(scale, upstream);
      if (dgain) access.store(hn::MulAdd(scaled, access.load(x + c), access.load(dgain + c)), dgain + c);
      if (dshift) access.store(hn::Add(access.load(dshift + c), upstream), dshift + c);
      if (!dx) return;
      auto v = hn::Mul(hn::Mul(scale, gain.at(c, access)), upstream);
      if (add) v = hn::Add(v, access.load(add + c));
      access.store(v, dx + c);
    });
  }
}

void affine_forward(const AffineForward& op) {
  const bool narrow_x = op.x.dtype == DType::bfloat16;
  if (op.y.dtype == DType::bfloat16) narrow_x ? forward_rows<BFloat16, BFloat16>(op) : forward_rows<BFloat16, float>(op);
  else narrow_x ? forward_rows<float, BFloat16>(op) : forward_rows<float, float>(op);
}
void affine_backward(const AffineBackward& op) { op.dy.dtype == DType::bfloat16 ? backward_rows<BFloat16>(op) : backward_rows<float>(op); }

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(affine_forward);
HWY_EXPORT(affine_backward);

void CpuBackend::do_affine_forward(const AffineForward& op) { HWY_DYNAMIC_DISPATCH(affine_forward)(op); }
void CpuBackend::do_affine_backward(const AffineBackward& op) { HWY_DYNAMIC_DISPATCH(affine_backward)(op); }

}  // namespace elastiform
#endif
