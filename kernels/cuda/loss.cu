// Cross-entropy and distillation: a block a row reads its logits once for all sums, and once more for the gradient.
#include <cfloat>

#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

struct SecondTargets {
  const std::int32_t* targets = nullptr;  // null: none
  const float* shares = nullptr;
};

struct LossOperands {
  Strided<const float> logits, teacher;
  Strided<float> dlogits;
  float *losses = nullptr, *teacher_losses = nullptr, *correct = nullptr;
  const std::int32_t* targets = nullptr;
  SecondTargets second;
  double smoothing = 0, temperature = 1;
  float inverse_temperature = 1;
  float label_weight = 0, teacher_weight = 0;  // of the gradient: times its scale, and times the temperature
  float uniform = 0, beside_target = 0;        // ε/V, and what of 1 is not wanted at the target: ε - ε/V
};

/// Sums of e^((x - largest) / T) while the largest becomes known: in one pass over a row. It begins above -∞, so that classes that a
/// logit of -∞ rules out add 0.
struct OnlineSoftmax {
  float largest = -FLT_MAX;
  float total = 0;     // T = 1
  float tempered = 0;  // the given T
  float weighted = 0;  // with another factor in each term of `tempered`
};

template <bool kTempered>
GPU_FUNCTION void raise(OnlineSoftmax& s, float largest, float inverse_temperature) {
  if (!(largest > s.largest)) return;
  s.total *= expf(s.largest - largest);
  if (kTempered) {
    const float factor = expf((s.largest - largest) * inverse_temperature);
    s.tempered *= factor;
    s.weighted *= factor;
  }
  s.largest = largest;
}

GPU_FUNCTION float largest_of(const float (&x)[kFour], int count) {
  float largest = x[0];
#pragma unroll
  for (int i = 1; i < kFour; ++i)
    if (i < count) largest = fmaxf(largest, x[i]);
  return largest;
}

/// What one row's gradient and losses are made of.
struct RowSums {
  OnlineSoftmax student, teacher;
  float above_target = 0;  // Σ (z - z_target)
  float beaten = 0;        // classes that win over the target: larger, or equal and before it
};
/// Logits are subtracted from these before they are compared with the teacher's: what all have in common would cost digits.
struct Shifts {
  float student = 0, teacher = 0;
};

template <bool kTaught, bool kTempered>
GPU_FUNCTION void add_group(RowSums& sums, const LossOperands& op, std::int64_t row, std::int64_t column, const Extent& extent,
                            std::int32_t target, float at_target, const Shifts& shifts) {
  const int count = extent.columns - column < kFour ? static_cast<int>(extent.columns - column) : kFour;
  float z[kFour], t[kFour];
  load_four(z, op.logits, row, column, extent);
  raise<kTempered>(sums.student, largest_of(z, count), op.inverse_temperature);
  if (kTaught) {
    load_four(t, op.teacher, row, column, extent);
    raise<true>(sums.teacher, largest_of(t, count), op.inverse_temperature);
  }
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    if (i >= count) continue;
    sums.student.total += expf(z[i] - sums.student.largest);
    if (op.smoothing != 0) sums.above_target += z[i] - at_target;
    if (z[i] > at_target || (z[i] == at_target && column + i < target)) sums.beaten = 1;
    if (!kTaught) continue;
    if (kTempered) sums.student.tempered += expf((z[i] - sums.student.largest) * op.inverse_temperature);
    const float weight = expf((t[i] - sums.teacher.largest) * op.inverse_temperature);
    sums.teacher.tempered += weight;
    // 0 · ∞ for a teacher that rules a class out
    if (weight != 0)
      sums.teacher.weighted =
          fmaf(weight, ((t[i] - shifts.teacher) - (z[i] - shifts.student)) * op.inverse_temperature, sums.teacher.weighted);
  }
}

/// Over the block: every thread receives the sums of the row.
template <bool kTaught, bool kTempered>
GPU_FUNCTION void reduce(RowSums& sums, float inverse_temperature) {
  float largest[kTaught ? 2 : 1] = {sums.student.largest};
  if constexpr (kTaught) largest[1] = sums.teacher.largest;
  block_max(largest);
  raise<kTempered>(sums.student, largest[0], inverse_temperature);
  if constexpr (kTaught) {
    raise<true>(sums.teacher, largest[1], inverse_temperature);
    float parts[6] = {sums.student.total,    sums.above_target,     sums.beaten,
                      sums.student.tempered, sums.teacher.tempered, sums.teacher.weighted};
    block_sum(parts);
    sums.student.tempered = kTempered ? parts[3] : parts[0];
    sums.teacher.tempered = parts[4];
    sums.teacher.weighted = parts[5];
    sums.student.total = parts[0];
    sums.above_target = parts[1];
    sums.beaten = parts[2];
  } else {
    float parts[3] = {sums.student.total, sums.above_target, sums.beaten};
    block_sum(parts);
    sums.student.total = parts[0];
    sums.above_target = parts[1];
    sums.beaten = parts[2];
  }
}

/// The second target of a row, its logit and its share of the label.
struct Second {
  std::int32_t target = -1;
  float logit = 0, share = 0;
};

/// By one thread, in double: logarithms and what they are subtracted from are about equal near the optimum.
template <bool kTaught>
GPU_FUNCTION void write_losses(const LossOperands& op, std::int64_t n, const RowSums& sums, std::int64_t V, bool labelled, float at_target,
                               const Second& second, const Shifts& shifts) {
  if (op.losses) {
    double loss = 0;
    if (labelled) {
      // (1-ε)·(lse - z_target) + ε·(lse - mean z)
      loss = log(static_cast<double>(sums.student.total)) + (static_cast<double>(sums.student.largest) - static_cast<double>(at_target));
      if (second.share != 0)
        loss +=
            (1 - op.smoothing) * static_cast<double>(second.share) * (static_cast<double>(at_target) - static_cast<double>(second.logit));
      if (op.smoothing != 0) loss -= op.smoothing * static_cast<double>(sums.above_target) / static_cast<double>(V);
    }
    op.losses[n] = static_cast<float>(loss);
  }
  if (kTaught && op.teacher_losses) {
    // Σ t_v (log t_v - log q_v), log t_v - log q_v = ((t_v - shift) - (z_v - shift)) / T + a constant of the row
    const double total = static_cast<double>(sums.teacher.tempered);
    const double above = (static_cast<double>(sums.teacher.largest) - static_cast<double>(shifts.teacher)) -
                         (static_cast<double>(sums.student.largest) - static_cast<double>(shifts.student));
    const double divergence = static_cast<double>(sums.teacher.weighted) / total - above / op.temperature - log(total) +
                              log(static_cast<double>(sums.student.tempered));
    op.teacher_losses[n] = static_cast<float>(op.temperature * op.temperature * divergence);
  }
  if (op.correct) op.correct[n] = labelled && sums.beaten == 0 && at_target == at_target ? 1.0f : 0.0f;
}

/// dz_v = label · e^p_v - uniform + student · e^q_v - teacher · e^t_v, and the target's in full.
template <bool kTaught, bool kTempered>
GPU_FUNCTION void write_gradient(const LossOperands& op, std::int64_t n, const RowSums& sums, const Extent& extent, std::int32_t target,
                                 float at_target, const Second& second) {
  const bool labelled = target != kIgnoredTarget;
  const OnlineSoftmax &student = sums.student, &teacher = sums.teacher;
  const float label_factor = op.label_weight / student.total, uniform = labelled ? op.label_weight * op.uniform : 0.0f;
  const float student_factor = kTaught ? op.teacher_weight / student.tempered : 0.0f;
  const float teacher_factor = kTaught ? op.teacher_weight / teacher.tempered : 0.0f;
  // p - 1 as one quotient: near the optimum the two cancel.
  const float below_one = (expf(at_target - student.largest) - student.total) / student.total;
  const float target_gradient = op.label_weight * (below_one + op.beside_target);
  for (std::int64_t c = threadIdx.x * kFour; c < extent.columns; c += blockDim.x * kFour) {
    float z[kFour], t[kFour], gradient[kFour];
    load_four(z, op.logits, n, c, extent);
    if (kTaught) load_four(t, op.teacher, n, c, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      const float below = z[i] - student.largest, power = expf(below);
      gradient[i] = !labelled ? 0.0f : c + i == target ? target_gradient : fmaf(label_factor, power, -uniform);
      if (second.share != 0) {
        const float moved = op.label_weight * (1 - static_cast<float>(op.smoothing)) * second.share;
        if (c + i == target) gradient[i] += moved;
        if (c + i == second.target) gradient[i] -= moved;
      }
      if (!kTaught) continue;
      const float tempered = kTempered ? expf(below * op.inverse_temperature) : power;
      gradient[i] += student_factor * tempered - teacher_factor * expf((t[i] - teacher.largest) * op.inverse_temperature);
    }
    store_four(op.dlogits, n, c, extent, gradient);
  }
}

GPU_FUNCTION float finite_or_zero(float x) { return fabsf(x) <= FLT_MAX ? x : 0.0f; }

template <bool kTaught, bool kTempered>
GPU_KERNEL softmax_loss_kernel(LossOperands op, Extent extent) {
  const std::int64_t n = blockIdx.x;
  const std::int32_t target = op.targets[n];
  const bool labelled = target != kIgnoredTarget;
  const float* z = op.logits.data + n * op.logits.ld;
  const float at_target = labelled ? z[target] : 0.0f;  // before dlogits, which may be the memory of logits, is written
  Second second;
  if (labelled && op.second.targets) second = {op.second.targets[n], z[op.second.targets[n]], op.second.shares[n]};
  Shifts shifts;
  if (kTaught) shifts = {finite_or_zero(z[0]), finite_or_zero(op.teacher.data[n * op.teacher.ld])};
  RowSums sums;
  for (std::int64_t c = threadIdx.x * kFour; c < extent.columns; c += blockDim.x * kFour)
    add_group<kTaught, kTempered>(sums, op, n, c, extent, target, at_target, shifts);
  reduce<kTaught, kTempered>(sums, op.inverse_temperature);
  if (threadIdx.x == 0) write_losses<kTaught>(op, n, sums, extent.columns, labelled, at_target, second, shifts);
  if (op.dlogits.data) write_gradient<kTaught, kTempered>(op, n, sums, extent, target, at_target, second);
}

float* vector_or_null(View view) { return view.empty() ? nullptr : view.row<float>(0); }

/// Of a block: as many as a row has groups of four columns, in powers of two. A function of the vocabulary, as sums depend on it.
unsigned int threads_of(std::int64_t V) {
  constexpr unsigned int kMost = 512;
  unsigned int threads = kWarp;
  while (threads < kMost && threads * kFour < V) threads *= 2;
  return threads;
}

}  // namespace

void softmax_loss(Stream stream, const SoftmaxLoss& op, const LossTargets& on_device) {
  const std::int64_t V = op.logits.columns;
  const double uniform = op.label_smoothing / static_cast<double>(V);
  const LossOperands operands{.logits = strided<float>(op.logits),
                              .teacher = strided<float>(op.teacher),
                              .dlogits = strided<float>(op.dlogits),
                              .losses = vector_or_null(op.losses),
                              .teacher_losses = vector_or_null(op.teacher_losses),
                              .correct = vector_or_null(op.correct),
                              .targets = on_device.targets,
                              .second = {on_device.second_targets, on_device.second_shares},
                              .smoothing = op.label_smoothing,
                              .temperature = op.temperature,
                              .inverse_temperature = static_cast<float>(1 / op.temperature),
                              .label_weight = static_cast<float>(op.gradient_scale * op.label_weight),
                              .teacher_weight = static_cast<float>(op.gradient_scale * op.teacher_weight * op.temperature),
                              .uniform = static_cast<float>(uniform),
                              .beside_target = static_cast<float>(op.label_smoothing - uniform)};
  const Extent extent{op.logits.rows, V, all_aligned(op.logits, op.teacher, op.dlogits)};
  const bool tempered = op.temperature != 1;
  const auto kernel = op.teacher.empty() ? softmax_loss_kernel<false, false>
                      : tempered         ? softmax_loss_kernel<true, true>
                                         : softmax_loss_kernel<true, false>;
  const Launch l{.name = op.kName, .grid = {static_cast<unsigned int>(extent.rows)}, .block = {threads_of(V)}, .stream = stream};
  launch(l, kernel, operands, extent);
}

}  // namespace elastiform::ELASTIFORM_GPU
