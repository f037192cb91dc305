#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference_backend.hpp"

namespace elastiform {
namespace {

/// log softmax(logits / temperature) of one row.
std::vector<double> log_softmax(const double* logits, std::int64_t V, double temperature) {
  const double largest = *std::max_element(logits, logits + V);
  std::vector<double> result(V);
  double total = 0;
  for (std::int64_t v = 0; v < V; ++v) total += std::exp(result[v] = (logits[v] - largest) / temperature);
  for (double& value : result) value -= std::log(total);
  return result;
}

/// What of row n's label is class v.
double share_of(const SoftmaxLoss& op, std::int64_t n, std::int64_t v) {
  const auto at = static_cast<std::size_t>(n);
  const double second = op.second_targets.empty() ? 0 : static_cast<double>(op.second_shares[at]);
  return (v == op.targets[at] ? 1 - second : 0) + (second > 0 && v == op.second_targets[at] ? second : 0);
}

}  // namespace

void ReferenceBackend::do_softmax_loss(const SoftmaxLoss& op) {
  const std::int64_t V = op.logits.columns;
  const double T = op.temperature;
  for (std::int64_t n = 0; n < op.logits.rows; ++n) {
    const double* logits = op.logits.row<double>(n);
    const std::int32_t target = op.targets[n];
    double label_loss = 0, teacher_loss = 0;
    std::vector<double> gradient(V);
    if (target != kIgnoredTarget) {
      const std::vector<double> log_p = log_softmax(logits, V, 1);
      for (std::int64_t v = 0; v < V; ++v) {
        const double wanted = op.label_smoothing / static_cast<double>(V) + (1 - op.label_smoothing) * share_of(op, n, v);
        label_loss -= wanted == 0 ? 0.0 : wanted * log_p[v];
        gradient[v] += op.label_weight * (std::exp(log_p[v]) - wanted);
      }
    }
    if (!op.teacher.empty()) {
      const std::vector<double> log_p = log_softmax(logits, V, T);
      const std::vector<double> log_teacher = log_softmax(op.teacher.row<double>(n), V, T);
      for (std::int64_t v = 0; v < V; ++v) {
        const double wanted = std::exp(log_teacher[v]);
        teacher_loss += T * T * wanted * (log_teacher[v] - log_p[v]);
        gradient[v] += op.teacher_weight * T * (std::exp(log_p[v]) - wanted);
      }
    }
    if (!op.losses.empty()) op.losses.row<double>(0)[n] = label_loss;
    if (!op.teacher_losses.empty()) op.teacher_losses.row<double>(0)[n] = teacher_loss;
    if (!op.correct.empty()) op.correct.row<double>(0)[n] = std::max_element(logits, logits + V) - logits == target ? 1.0 : 0.0;
    if (!op.dlogits.empty())  // last: dlogits may be the memory of logits
      for (std::int64_t v = 0; v < V; ++v) op.dlogits.row<double>(n)[v] = op.gradient_scale * gradient[v];
  }
}

}  // namespace elastiform
