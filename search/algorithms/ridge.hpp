#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/random.hpp"

namespace elastiform {

/// Rows of a weighted linear regression: targets[i] is about row i · effects, with variance σ²/weights[i].
struct WeightedRows {
  std::size_t columns = 0;
  std::vector<double> values;            // [rows][columns]
  std::vector<double> targets, weights;  // [rows]
  std::size_t size() const { return targets.size(); }
  std::span<const double> row(std::size_t i) const { return std::span(values).subspan(i * columns, columns); }
};

/// Bayesian ridge regression: effects have the normal prior of mean 0 and precision penalties/σ², and a normal posterior (Bishop, Pattern
/// Recognition and Machine Learning, section 3.3).
class Ridge {
 public:
  /// penalties[columns], all above 0.
  Ridge(const WeightedRows& rows, std::span<const double> penalties);

  std::span<const double> mean() const { return mean_; }
  /// Weighted mean square of what each row would be missed by if it were left out.
  double left_out() const { return left_out_; }
  /// Of effects, drawn from the posterior.
  std::vector<double> draw(RandomStream& random) const;

 private:
  void judge(const WeightedRows& rows);

  std::vector<double> mean_, lower_;     // [columns]; [columns][columns], lower · lowerᵀ = σ² · the posterior's precision
  double left_out_ = 0, deviation_ = 0;  // σ, of a row of weight 1
};

double dot(std::span<const double> a, std::span<const double> b);

}  // namespace elastiform
