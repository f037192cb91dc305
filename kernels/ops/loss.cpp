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
  checks.same("second_shares.size()", static_cast<std::int64_t>(second_shares.size()), "second_targets.size()",
              static_cast<std::int64_t>(second_targets.size()));
  if (!second_targets.empty())
    checks.same("second_targets.size()", static_cast<std::int64_t>(second_targets.size()), "logits.rows", logits.rows);
  const auto check_target = [&](std::int32_t target) {
    if (target != kIgnoredTarget && (target < 0 || target >= logits.columns))
      checks.fail("target " + std::to_string(target) + " is outside the " + std::to_string(logits.columns) + " columns of logits");
  };
  for (const std::int32_t target : targets) check_target(target);
  for (std::size_t i = 0; i < second_targets.size(); ++i) {
    check_target(second_targets[i]);
    if (second_targets[i] == kIgnoredTarget && targets[i] != kIgnoredTarget)
      checks.fail("a second target is ignored, and its first is not");
    if (!(second_shares[i] >= 0 && second_shares[i] <= 1)) checks.fail("a share of a second target is not between 0 and 1");
  }
}

}  // namespace elastiform
