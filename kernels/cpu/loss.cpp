#include "kernels/cpu/cpu_backend.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/loss.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

// Sums of a row are added up in double every so many columns: with V = 50,000 one float chain a lane would lose 6 bits.
constexpr std::int64_t kColumnChunk = 1024;

template <class Term>
HWY_INLINE double sum_columns(std::int64_t V, const Term& term) {
  double total = 0;
  for (std::int64_t first = 0; first < V; first += kColumnChunk) {
    FloatVector sum = hn::Zero(Float());
    for_vectors(std::min(kColumnChunk, V - first),
                [&](std::int64_t c, auto access) HWY_ATTR { sum = hn::Add(sum, access.keep(term(first + c, access), hn::Zero(Float()))); });
    total += static_cast<double>(sum_of_lanes(sum));
  }
  return total;
}

float largest_of(const float* z, std::int64_t V) {
  const auto low = constant(-std::numeric_limits<float>::infinity());
  FloatVector largest = low;
  for_vectors(V, [&](std::int64_t c, auto access) HWY_ATTR { largest = hn::Max(largest, access.keep(access.load(z + c), low)); });
  return max_of_lanes(largest);
}

/// Softmax of z / temperature: p_v = e^((z_v - largest) / temperature) / total.
struct Softmax {
  const float* z;
  float largest, inverse_temperature;
  double total;

  Softmax(const float* logits, std::int64_t V, float largest_logit, double temperature)
      : z(logits), largest(largest_logit), inverse_temperature(static_cast<float>(1 / temperature)) {
    total = sum_columns(V, [&](std::int64_t c, const auto& access) HWY_ATTR { return exponential(c, access); });
  }
  template <class Access>
  HWY_INLINE FloatVector scaled(std::int64_t c, const Access& access) const {
    return hn::Mul(hn::Sub(access.load(z + c), hn::Set(Float(), largest)), hn::Set(Float(), inverse_temperature));
  }
  template <class Access>
  HWY_INLINE FloatVector exponential(std::int64_t c, const Access& access) const {
    return exp_bounded(scaled(c, access));
  }
  double log_total() const { return std::log(total); }
  double probability(std::int32_t v) const { return std::exp(static_cast<double>(z[v] - largest) * inverse_temperature) / total; }
};

/// The second target of a row, and its share.
struct Second {
  std::int32_t target = 0;
  double share = 0;
};
Second second_of(const SoftmaxLoss& op, std::int64_t n) {
  const auto at = static_cast<std::size_t>(n);
  return op.second_targets.empty() ? Second{} : Second{op.second_targets[at], static_cast<double>(op.second_shares[at])};
}

/// (1-ε)·(lse - z_target) + ε·(lse - mean z), lse = largest + log total; z_target is a mean where there are two.
double label_loss(const Softmax& p, std::int64_t V, std::int32_t target, const Second& second, double smoothing) {
  double hard = p.log_total() + p.largest - p.z[target];
  if (second.share > 0) hard += second.share * (static_cast<double>(p.z[target]) - p.z[second.target]);
  if (smoothing == 0) return hard;
  const double sum = sum_columns(
      V, [&](std::int64_t c, const auto& access) HWY_ATTR { return hn::Sub(access.load(p.z + c), hn::Set(Float(), p.largest)); });
  return (1 - smoothing) * hard + smoothing * (p.log_total() - sum / static_cast<double>(V));
}

/// T² Σ_v t_v · (log t_v - log q_v).
double teacher_loss(const Softmax& teacher, const Softmax& q, std::int64_t V, double temperature) {
  const auto shift = constant(q.log_total() - teacher.log_total());
  const double sum = sum_columns(V, [&](std::int64_t c, const auto& access) HWY_ATTR {
    const auto ratio = hn::Add(hn::Sub(teacher.scaled(c, access), q.scaled(c, access)), shift);
    const auto weight = teacher.exponential(c, access);
    // 0 · ∞ for a teacher that rules a class out
    return hn::IfThenZeroElse(hn::Eq(weight, hn::Zero(Float())), hn::Mul(weight, ratio));
  });
  return temperature * temperature * sum / teacher.total;
}

bool first_largest_is(const float* z, std::int32_t target, float largest) {
  return target >= 0 && z[target] == largest && std::find(z, z + target, largest) == z + target;
}

/// Gradient factors of one row, dz_v = label · e^p_v - uniform + student · e^q_v - teacher · e^t_v; the target's in full.
struct Factors {
  float label = 0, uniform = 0, student = 0, teacher = 0, at_target = 0;
};

Factors gradient_factors(const SoftmaxLoss& op, std::int32_t target, const Softmax& p, const Softmax& q, const Softmax* teacher) {
  Factors f;
  double at_target = 0;
  const bool labelled = target != kIgnoredTarget;
  if (labelled) {
    const double weight = op.gradient_scale * op.label_weight, uniform = op.label_smoothing / static_cast<double>(op.logits.columns);
    f.label = static_cast<float>(weight / p.total);
    f.uniform = static_cast<float>(weight * uniform);
    // In double: near the optimum p_target and what is wanted cancel.
    at_target = weight * (p.probability(target) - (uniform + (1 - op.label_smoothing)));
  }
  if (teacher) {
    const double weight = op.gradient_scale * op.teacher_weight * op.temperature;
    f.student = static_cast<float>(weight / q.total);
    f.teacher = static_cast<float>(weight / teacher->total);
    if (labelled) at_target += weight * (q.probability(target) - teacher->probability(target));
  }
  f.at_target = static_cast<float>(at_target);
  return f;
}

void write_gradient(float* dz, std::int64_t V, const Softmax& p, const Softmax& q, const Softmax* teacher, const Factors& f) {
  const Float d;
  for_vectors(V, [&](std::int64_t c, auto access) HWY_ATTR {
    auto v = hn::Sub(hn::Mul(hn::Set(d, f.label), p.exponential(c, access)), hn::Set(d, f.uniform));
    if (teacher) {
      v = hn::MulAdd(hn::Set(d, f.student), q.exponential(c, access), v);
      v = hn::NegMulAdd(hn::Set(d, f.teacher), teacher->exponential(c, access), v);
    }
    access.store(v, dz + c);
  });
}

void loss_row(const SoftmaxLoss& op, std::int64_t n) {
  const std::int64_t V = op.logits.columns;
  const float* z = op.logits.row<float>(n);
  const std::int32_t target = op.targets[static_cast<std::size_t>(n)];
  const bool labelled = target != kIgnoredTarget, taught = !op.teacher.empty();
  const float largest = largest_of(z, V);
  const Softmax p(z, V, largest, 1);
  const Softmax q = taught && op.temperature != 1 ? Softmax(z, V, largest, op.temperature) : p;
  const float* teacher_logits = taught ? op.teacher.row<float>(n) : z;
  const Softmax teacher = taught ? Softmax(teacher_logits, V, largest_of(teacher_logits, V), op.temperature) : p;
  const Second second = labelled ? second_of(op, n) : Second{};
  if (!op.losses.empty())
    op.losses.row<float>(0)[n] = static_cast<float>(labelled ? label_loss(p, V, target, second, op.label_smoothing) : 0);
  if (!op.teacher_losses.empty()) op.teacher_losses.row<float>(0)[n] = static_cast<float>(teacher_loss(teacher, q, V, op.temperature));
  if (!op.correct.empty()) op.correct.row<float>(0)[n] = first_largest_is(z, target, largest) ? 1.0f : 0.0f;
  if (op.dlogits.empty()) return;
  const Softmax* teacher_or_none = taught ? &teacher : nullptr;
  const Factors factors = gradient_factors(op, target, p, q, teacher_or_none);  // first: dlogits may be the memory of logits
  write_gradient(op.dlogits.row<float>(n), V, p, q, teacher_or_none, factors);
  if (!labelled) return;
  float* dlogits = op.dlogits.row<float>(n);
  dlogits[target] = factors.at_target;
  if (second.share == 0) return;
  const double moved = op.gradient_scale * op.label_weight * (1 - op.label_smoothing) * second.share;
  dlogits[target] += static_cast<float>(moved);
  dlogits[second.target] -= static_cast<float>(moved);
}

void softmax_loss(const SoftmaxLoss& op) {
  for (std::int64_t n = 0; n < op.logits.rows; ++n) loss_row(op, n);
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(softmax_loss);

void CpuBackend::do_softmax_loss(const SoftmaxLoss& op) { HWY_DYNAMIC_DISPATCH(softmax_loss)(op); }

}  // namespace elastiform
#endif
