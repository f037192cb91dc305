#include "search/algorithms/loss_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>

namespace elastiform {
namespace {

// Penalties on a block's own effects that are tried, for losses in units of their median distance from the best; the common effects stand
// for many blocks and are held a sixteenth as strongly.
constexpr std::array kPenalties = {0.003, 0.01, 0.03, 0.1, 0.3, 1.0};
constexpr double kCommonShare = 1.0 / 16;

/// Losses less the best, in units of their median.
std::vector<double> distances_of(std::span<const Member> told) {
  std::vector<double> finite;
  for (const Member& member : told)
    if (std::isfinite(member.loss)) finite.push_back(member.loss);
  const auto [best, worst] = std::ranges::minmax(finite);
  for (double& loss : finite) loss -= best;
  const auto middle = finite.begin() + static_cast<std::ptrdiff_t>(finite.size() / 2);
  std::nth_element(finite.begin(), middle, finite.end());
  const double unit = *middle > 0 ? *middle : 1;
  std::vector<double> distances;
  for (const Member& member : told)
    distances.push_back(std::isfinite(member.loss) ? (member.loss - best) / unit : (worst - best) / unit + 1);
  return distances;
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
    const double heads = genes[i] ? lacking(genes[i]->heads, space_->max_heads(static_cast<int>(i))) : 1;
    const double columns = genes[i] ? lacking(genes[i]->ffn, widest_.at(embed)[i]) : 1;
    for (const auto& [common, own, share] :
         {std::tuple(std::size_t{5}, std::size_t{0}, heads), {std::size_t{7}, std::size_t{2}, columns}}) {
      put(common, share);
      put(kCommon + kOfBlock * i + own, share);
    }
  }
  return shares;
}

LossModel::LossModel(const SearchSpace& space, std::span<const Member> told) : shares_(space) {
  WeightedRows rows;
  rows.columns = shares_.size();
  rows.targets = distances_of(told);
  for (std::size_t i = 0; i < told.size(); ++i) {
    const std::vector<double> row = shares_.of(told[i].subnet);
    rows.values.insert(rows.values.end(), row.begin(), row.end());
    rows.weights.push_back(1 / (1 + rows.targets[i]));  // weight · distance grows with distance: what is worst is never held for good
  }
  for (const double penalty : kPenalties) {
    std::vector<double> penalties(rows.columns, penalty);
    std::fill_n(penalties.begin(), LackingShares::kCommon, kCommonShare * penalty);
    Ridge tried(rows, penalties);
    if (!ridge_ || tried.left_out() < ridge_->left_out()) ridge_ = std::move(tried);
  }
}

}  // namespace elastiform
