#include "search/algorithms/loss_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <tuple>

namespace elastiform {
namespace {

// Penalties on a block's own effects that are tried, for losses in units of their median distance from the best; the common effects stand
// for many blocks and are held a sixteenth as strongly.
constexpr std::array kPenalties = {0.003, 0.01, 0.03, 0.1, 0.3, 1.0};
constexpr double kCommonShare = 1.0 / 16;
// A row that its own evaluation alone decides would have no error left out.
constexpr double kLeastFreedom = 1e-6;

/// a = L·Lᵀ; L replaces the lower triangle of a[n][n], which is positive definite.
void factor(std::vector<double>& a, std::size_t n) {
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t i = j; i < n; ++i) {
      double sum = a[i * n + j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
}

/// L·x = b in place.
void solve_lower(std::span<const double> l, std::span<double> x) {
  const std::size_t n = x.size();
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) x[i] -= l[i * n + k] * x[k];
    x[i] /= l[i * n + i];
  }
}

/// Lᵀ·x = b in place.
void solve_upper(std::span<const double> l, std::span<double> x) {
  const std::size_t n = x.size();
  for (std::size_t i = n; i-- > 0;) {
    x[i] /= l[i * n + i];
    for (std::size_t k = 0; k < i; ++k) x[k] -= l[i * n + k] * x[i];
  }
}

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// Evaluations as rows of a weighted regression.
struct Evidence {
  std::vector<std::vector<double>> shares;
  std::vector<double> losses, weights;  // losses less the best, in units of their median; less weight to the bad
};

Evidence evidence_of(const LackingShares& shares, std::span<const Member> told) {
  Evidence rows;
  for (const Member& member : told)
    if (std::isfinite(member.loss)) {
      rows.shares.push_back(shares.of(member.subnet));
      rows.losses.push_back(member.loss);
    }
  const double best = *std::ranges::min_element(rows.losses);
  for (double& loss : rows.losses) loss -= best;
  std::vector<double> sorted = rows.losses;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  const double unit = *middle > 0 ? *middle : 1;
  for (double& loss : rows.losses) {
    loss /= unit;
    rows.weights.push_back(1 / (1 + loss * loss));
  }
  return rows;
}

struct Fit {
  std::vector<double> mean, factor;
  double error = 0;  // weighted mean square of what each evaluation would have been missed by without it
};

Fit fit(const Evidence& rows, std::vector<double> precision, std::span<const double> moments, double penalty) {
  const std::size_t n = moments.size();
  for (std::size_t i = 0; i < n; ++i) precision[i * n + i] += i < LackingShares::kCommon ? kCommonShare * penalty : penalty;
  factor(precision, n);
  Fit fit{{moments.begin(), moments.end()}, std::move(precision), 0};
  solve_lower(fit.factor, fit.mean);
  solve_upper(fit.factor, fit.mean);
  double total = 0;
  for (std::size_t i = 0; i < rows.losses.size(); ++i) {
    std::vector<double> row = rows.shares[i];
    const double missed = rows.losses[i] - dot(row, fit.mean);
    solve_lower(fit.factor, row);
    const double left_out = missed / std::max(kLeastFreedom, 1 - rows.weights[i] * dot(row, row));
    fit.error += rows.weights[i] * left_out * left_out;
    total += rows.weights[i];
  }
  fit.error /= total;
  return fit;
}

}  // namespace

LackingShares::LackingShares(const SearchSpace& space) : space_(&space) {
  for (const int embed : space.embed()) {
    std::vector<int>& widest = widest_.emplace_back();
    for (const SearchSpace::Block& block : space.blocks()) widest.push_back(block.ffn.at(embed).back());
  }
}

std::vector<double> LackingShares::of(const Subnet& subnet) const {
  const auto lacking = [](int size, int most) { return most > 0 ? 1 - static_cast<double>(size) / most : 0; };
  std::vector<double> shares(size(), 0);
  const auto put = [&](std::size_t at, double share) {
    shares[at] += share;
    shares[at + 1] += share * share;
  };
  shares[0] = 1;
  put(1, lacking(subnet.embed, space_->max_embed()));
  put(3, lacking(subnet.depth(), space_->max_depth()));
  const auto embed = static_cast<std::size_t>(std::ranges::find(space_->embed(), subnet.embed) - space_->embed().begin());
  std::vector<const BlockGenes*> genes(space_->blocks().size(), nullptr);
  for (int i = 0; i < subnet.depth(); ++i)
    genes[static_cast<std::size_t>(subnet.block_index(i))] = &subnet.blocks[static_cast<std::size_t>(i)];
  for (std::size_t i = 0; i < genes.size(); ++i) {
    const double heads = genes[i] ? lacking(genes[i]->heads, space_->blocks()[i].heads.back()) : 1;
    const double columns = genes[i] ? lacking(genes[i]->ffn, widest_[embed][i]) : 1;
    for (const auto& [common, own, share] :
         {std::tuple(std::size_t{5}, std::size_t{0}, heads), {std::size_t{7}, std::size_t{2}, columns}}) {
      put(common, share);
      put(kCommon + kOfBlock * i + own, share);
    }
  }
  return shares;
}

LossModel::LossModel(const SearchSpace& space, std::span<const Member> told) : shares_(space) {
  const Evidence rows = evidence_of(shares_, told);
  const std::size_t n = shares_.size();
  std::vector<double> precision(n * n, 0), moments(n, 0);
  for (std::size_t r = 0; r < rows.losses.size(); ++r) {
    const std::vector<double>& row = rows.shares[r];
    for (std::size_t i = 0; i < n; ++i) {
      const double weighted = rows.weights[r] * row[i];
      if (weighted == 0) continue;
      moments[i] += weighted * rows.losses[r];
      for (std::size_t k = 0; k <= i; ++k) precision[i * n + k] += weighted * row[k];
    }
  }
  double least = std::numeric_limits<double>::infinity();
  for (const double penalty : kPenalties) {
    Fit tried = fit(rows, precision, moments, penalty);
    if (tried.error >= least) continue;
    least = tried.error;
    mean_ = std::move(tried.mean);
    factor_ = std::move(tried.factor);
  }
  deviation_ = std::sqrt(least);
}

std::vector<double> LossModel::draw(RandomStream& random) const {
  std::vector<double> effects(mean_.size());
  for (double& effect : effects) effect = deviation_ * random.normal();
  solve_upper(factor_, effects);
  for (std::size_t i = 0; i < effects.size(); ++i) effects[i] += mean_[i];
  return effects;
}

double LossModel::predict(const Subnet& subnet, std::span<const double> effects) const { return dot(shares_.of(subnet), effects); }

}  // namespace elastiform
