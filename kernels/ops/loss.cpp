#include "kernels/ops/loss.hpp"

#include "kernels/ops/checks.hpp"

namespace elastiform {

void SoftmaxLoss::check() const {
  const Checks checks(kName);
  checks.present("logits", logits);
  checks.same("targets.size()", static_cast<std::int64_t>(targets.size()), "logits.rows", logits.rows);
  checks.at_least("logits.columns", logits.columns, "one class", 1);
  if (!losses.empty()) checks.vector("losses", losses, "logits.rows", logits.rows);
  if (!correct.empty()) checks.vector("correct", correct, "logits.rows", logits.rows);
  if (!dlogits.empty()) checks.like("dlogits", dlogits, "logits", logits);
  if (!teacher.empty()) checks.like("teacher", teacher, "logits", logits);
  if (!teacher_losses.empty()) {
    checks.vector("teacher_losses", teacher_losses, "logits.rows", logits.rows);
    checks.present("teacher", teacher);
  }
  if (!(temperature > 0)) checks.fail("temperature is " + std::to_string(temperature) + ", not above 0");
  for (const std::int32_t target : targets)
    if (target != kIgnoredTarget && (target < 0 || target >= logits.columns))
      checks.fail("target " + std::to_string(target) + " is outside the " + std::to_string(logits.columns) + " columns of logits");
}

}  // namespace elastiform
