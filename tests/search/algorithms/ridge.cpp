#include "search/algorithms/ridge.hpp"

#include <array>
#include <cmath>

#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

WeightedRows some_rows() {
  WeightedRows rows;
  rows.columns = 2;
  rows.values = {1, 0, 1, 0.5, 1, 1, 1, 0.25, 1, 0.9, 1, 0.1};
  rows.targets = {0.1, 1.2, 1.9, 0.7, 1.6, 0.4};
  rows.weights = {1, 0.5, 0.25, 1, 2, 0.1};
  return rows;
}

WeightedRows without(const WeightedRows& rows, std::size_t left_out) {
  WeightedRows others;
  others.columns = rows.columns;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i == left_out) continue;
    others.values.insert(others.values.end(), rows.row(i).begin(), rows.row(i).end());
    others.targets.push_back(rows.targets[i]);
    others.weights.push_back(rows.weights[i]);
  }
  return others;
}

constexpr std::array kPenalties = {0.01, 0.2};

/// Of the posterior of two effects, by Cramer's rule.
struct ByHand {
  double a = kPenalties[0], b = 0, c = kPenalties[1], x = 0, y = 0;  // precision (a b; b c), moments
  explicit ByHand(const WeightedRows& rows) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto row = rows.row(i);
      a += rows.weights[i] * row[0] * row[0];
      b += rows.weights[i] * row[0] * row[1];
      c += rows.weights[i] * row[1] * row[1];
      x += rows.weights[i] * row[0] * rows.targets[i];
      y += rows.weights[i] * row[1] * rows.targets[i];
    }
  }
  double determinant() const { return a * c - b * b; }
  std::array<double, 2> mean() const { return {(x * c - y * b) / determinant(), (a * y - b * x) / determinant()}; }
  double leverage(std::span<const double> row) const {
    return (c * row[0] * row[0] - 2 * b * row[0] * row[1] + a * row[1] * row[1]) / determinant();
  }
};

}  // namespace

TEST_CASE("ridge regression has the mean of the normal equations, and the errors of explicit refits", "[search][algorithms]") {
  const WeightedRows rows = some_rows();
  const Ridge ridge(rows, kPenalties);
  const auto mean = ByHand(rows).mean();
  CHECK(ridge.mean()[0] == Approx(mean[0]));
  CHECK(ridge.mean()[1] == Approx(mean[1]));
  double error = 0, total = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Ridge refit(without(rows, i), kPenalties);
    const double missed = rows.targets[i] - dot(rows.row(i), refit.mean());
    error += rows.weights[i] * missed * missed;
    total += rows.weights[i];
  }
  CHECK(ridge.left_out() == Approx(error / total));
}

TEST_CASE("ridge regression draws effects with the posterior's mean and covariance", "[search][algorithms]") {
  const WeightedRows rows = some_rows();
  const Ridge ridge(rows, kPenalties);
  const ByHand hand(rows);
  double variance = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double missed = rows.targets[i] - dot(rows.row(i), hand.mean());
    variance += rows.weights[i] * missed * missed / (1 - rows.weights[i] * hand.leverage(rows.row(i))) / 6;
  }
  constexpr int kDraws = 40'000;
  RandomStream random(1, Purpose::test);
  double sum0 = 0, sum1 = 0, square0 = 0, square1 = 0, product = 0;
  for (int i = 0; i < kDraws; ++i) {
    const auto effects = ridge.draw(random);
    const double d0 = effects[0] - hand.mean()[0], d1 = effects[1] - hand.mean()[1];
    sum0 += d0, sum1 += d1, square0 += d0 * d0, square1 += d1 * d1, product += d0 * d1;
  }
  // 2 % is three standard errors of a variance of so many draws.
  CHECK(square0 / kDraws == Approx(variance * hand.c / hand.determinant()).epsilon(0.02));
  CHECK(square1 / kDraws == Approx(variance * hand.a / hand.determinant()).epsilon(0.02));
  CHECK(product / kDraws == Approx(-variance * hand.b / hand.determinant()).epsilon(0.03));
  CHECK(std::abs(sum0 / kDraws) < 0.02 * std::sqrt(square0 / kDraws));
  CHECK(std::abs(sum1 / kDraws) < 0.02 * std::sqrt(square1 / kDraws));
}

}  // namespace elastiform
