#pragma once

#include <optional>
#include <span>
#include <vector>

#include "search/algorithms/member.hpp"
#include "search/algorithms/ridge.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// What a subnet of the space lacks of the largest, as shares: of the embed width, of the depth, and of every block's heads and FFN columns,
/// each with its square, as what is cut last is missed most; those of all blocks together, too.
class LackingShares {
 public:
  explicit LackingShares(const SearchSpace& space);
  std::size_t size() const { return kCommon + kOfBlock * space_->blocks().size(); }
  std::vector<double> of(const Subnet& subnet) const;

  static constexpr std::size_t kCommon = 9;  // 1, embed, depth, all heads, all columns; these come first
  static constexpr std::size_t kOfBlock = 4;

 private:
  const SearchSpace* space_;
  std::vector<std::vector<int>> widest_;  // FFN columns, [embed choice][block]
};

/// A linear model of losses by what subnets lack, in which every block has effects of its own beside the common ones, and evaluations count
/// less the further they are from the best. How strongly effects are held to zero is chosen by leaving each evaluation out in turn. Made for
/// few evaluations of many blocks, where each block's effect is known only in part.
class LossModel {
 public:
  /// At least one loss is finite; those that are not count as worse than the worst.
  LossModel(const SearchSpace& space, std::span<const Member> told);

  /// Effects as they may be, drawn from their posterior (Thompson sampling); what is known badly is drawn widely.
  std::vector<double> draw(RandomStream& random) const { return ridge_->draw(random); }
  /// In units of the model; lower is better.
  double predict(const Subnet& subnet, std::span<const double> effects) const { return dot(shares_.of(subnet), effects); }

 private:
  LackingShares shares_;
  std::optional<Ridge> ridge_;
};

}  // namespace elastiform
