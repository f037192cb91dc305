#pragma once

#include <cstdint>
#include <span>
#include <tuple>

#include "kernels/view.hpp"

namespace elastiform {

constexpr std::int32_t kIgnoredTarget = -100;

/// Per row: label loss = cross-entropy of softmax(logits[N,V]) with (1-ε)·onehot(target) + ε/V (nats; 0 where the target is
/// kIgnoredTarget), or, of a row with a second target, of its share of that and the rest of this; teacher loss = T² · KL(softmax(teacher/T) || softmax(logits/T)) (arXiv 1503.02531).
/// losses[1,N] and teacher_losses[1,N] receive them (empty: not wanted). dlogits[N,V] (empty: forward only; may be the memory of
/// logits) = gradient_scale · d(label_weight · label loss + teacher_weight · teacher loss)/dlogits. An empty teacher is none.
/// correct[1,N] (empty: not wanted): 1 where the largest logit (the first of equals) is the target. Used inside panels.
struct SoftmaxLoss {
  static constexpr const char* kName = "softmax_loss";
  View losses, teacher_losses, correct, dlogits;
  ConstView logits, teacher;
  std::span<const std::int32_t> targets;
  double label_weight = 1, teacher_weight = 0, temperature = 1, label_smoothing = 0, gradient_scale = 1;
  std::span<const std::int32_t> second_targets{};  // of mixed examples; empty: none. Those of ignored rows are not read
  std::span<const float> second_shares{};          // of the label loss, 0 to 1
  void check() const;
  auto fields() const { return std::tie(losses, teacher_losses, correct, dlogits, logits, teacher); }
};

}  // namespace elastiform
