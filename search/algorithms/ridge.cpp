#include "search/algorithms/ridge.hpp"

#include <algorithm>
#include <cmath>

namespace elastiform {
namespace {

// A row that alone decides an effect has no error left out.
constexpr double kLeastFreedom = 1e-6;

/// a = L·Lᵀ; L replaces the lower triangle of a[n][n], which is positive definite.
void cholesky(std::vector<double>& a, std::size_t n) {
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t i = j; i < n; ++i) {
      double sum = a[i * n + j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
}

/// L·x = b in place.
void solve_lower(std::span<const double> lower, std::span<double> x) {
  const std::size_t n = x.size();
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) x[i] -= lower[i * n + k] * x[k];
    x[i] /= lower[i * n + i];
  }
}

/// Lᵀ·x = b in place.
void solve_upper(std::span<const double> lower, std::span<double> x) {
  const std::size_t n = x.size();
  for (std::size_t i = n; i-- > 0;) {
    x[i] /= lower[i * n + i];
    for (std::size_t k = 0; k < i; ++k) x[k] -= lower[i * n + k] * x[i];
  }
}

}  // namespace

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

Ridge::Ridge(const WeightedRows& rows, std::span<const double> penalties) : mean_(rows.columns, 0), lower_(rows.columns * rows.columns, 0) {
  const std::size_t n = rows.columns;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto row = rows.row(r);
    for (std::size_t i = 0; i < n; ++i) {
      const double weighted = rows.weights[r] * row[i];
      if (weighted == 0) continue;
      mean_[i] += weighted * rows.targets[r];
      for (std::size_t k = 0; k <= i; ++k) lower_[i * n + k] += weighted * row[k];
    }
  }
  for (std::size_t i = 0; i < n; ++i) lower_[i * n + i] += penalties[i];
  cholesky(lower_, n);
  solve_lower(lower_, mean_);
  solve_upper(lower_, mean_);
  judge(rows);
}

void Ridge::judge(const WeightedRows& rows) {
  double total = 0, residual = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::vector<double> row(rows.row(i).begin(), rows.row(i).end());
    const double missed = rows.targets[i] - dot(row, mean_);
    solve_lower(lower_, row);
    // 1 - the row's leverage: what the mean would miss without it is missed / freedom, and missed² has the mean σ² · freedom / weight.
    const double freedom = std::max(kLeastFreedom, 1 - rows.weights[i] * dot(row, row));
    left_out_ += rows.weights[i] * (missed / freedom) * (missed / freedom);
    residual += rows.weights[i] * missed * missed / freedom;
    total += rows.weights[i];
  }
  left_out_ /= total;
  deviation_ = std::sqrt(residual / static_cast<double>(rows.size()));
}

std::vector<double> Ridge::draw(RandomStream& random) const {
  std::vector<double> effects(mean_.size());
  for (double& effect : effects) effect = deviation_ * random.normal();
  solve_upper(lower_, effects);
  for (std::size_t i = 0; i < effects.size(); ++i) effects[i] += mean_[i];
  return effects;
}

}  // namespace elastiform
