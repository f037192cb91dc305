#include "search/algorithms/variation.hpp"

#include <algorithm>

namespace elastiform {
namespace {

// Genes that may pay for a change, tried in random order. One of 16 blocks × 2 genes fits nearly always; more tries would cost time only.
constexpr int kPayments = 24;

/// Another element of `choices` than `value`, or `value` when there is none.
int other_choice(const std::vector<int>& choices, int value, RandomStream& random) {
  const auto at = std::ranges::find(choices, value);
  if (at == choices.end()) return choices[random.below(choices.size())];
  if (choices.size() == 1) return value;
  const std::size_t i = random.below(choices.size() - 1);
  return choices[i < static_cast<std::size_t>(at - choices.begin()) ? i : i + 1];
}

std::size_t pick_block(std::size_t depth, BlockBias bias, RandomStream& random) {
  const std::size_t first = random.below(depth);
  // The latest of three: the last quarter of the blocks takes 58 % of the changes.
  return bias == BlockBias::uniform
             ? first
             : std::max({first, static_cast<std::size_t>(random.below(depth)), static_cast<std::size_t>(random.below(depth))});
}

/// Changes the head count or the FFN width of a block, the one that has a choice when the other has none.
void change_block(const SearchSpace& space, Subnet& subnet, std::size_t block, RandomStream& random) {
  const SearchSpace::Block& choices = space.blocks()[block];
  const std::vector<int> widths = choices.ffn.at(subnet.embed);
  BlockGenes& genes = subnet.blocks[block];
  const bool heads = widths.size() == 1 || (choices.heads.size() > 1 && random.below(2) == 0);
  if (heads) {
    genes.heads = other_choice(choices.heads, genes.heads, random);
    genes.groups = genes.heads / space.model().queries_per_group;
  } else {
    genes.ffn = other_choice(widths, genes.ffn, random);
  }
}

/// The same place in the list of FFN choices at another embed width.
void move_to_width(const SearchSpace& space, Subnet& subnet, int embed) {
  for (std::size_t i = 0; i < subnet.blocks.size(); ++i) {
    const std::vector<int> before = space.blocks()[i].ffn.at(subnet.embed), after = space.blocks()[i].ffn.at(embed);
    const auto place = static_cast<std::size_t>(std::ranges::lower_bound(before, subnet.blocks[i].ffn) - before.begin());
    subnet.blocks[i].ffn = after[std::min(place, after.size() - 1)];
  }
  subnet.embed = embed;
}

/// The feasible subnet of this embed width and depth that keeps most of the first blocks, but at least `least` of them if it can.
std::optional<Subnet> keep_first_blocks(const FeasibleSet& feasible, const Subnet& wanted, int depth, std::size_t least,
                                        RandomStream& random) {
  std::vector<BlockGenes> prefix = wanted.blocks;
  if (prefix.size() > static_cast<std::size_t>(depth)) prefix.resize(static_cast<std::size_t>(depth));
  for (;; prefix.pop_back()) {
    if (auto subnet = feasible.complete(wanted.embed, depth, prefix, random)) return subnet;
    if (prefix.size() <= least) return std::nullopt;
  }
}

std::optional<Subnet> mutate_block(const FeasibleSet& feasible, const Subnet& parent, BlockBias bias, RandomStream& random) {
  const SearchSpace& space = feasible.costs().space();
  const std::size_t depth = parent.blocks.size(), block = pick_block(depth, bias, random);
  Subnet child = parent;
  change_block(space, child, block, random);
  if (feasible.contains(child)) return child;
  for (int i = 0; i < kPayments && depth > 1; ++i) {
    const std::size_t other = (block + 1 + random.below(depth - 1)) % depth;
    Subnet paid = child;
    change_block(space, paid, other, random);
    if (feasible.contains(paid)) return paid;
  }
  if (auto completed = keep_first_blocks(feasible, child, child.depth(), block + 1, random)) return completed;
  // Where all blocks must be equal, the changed block leads the others.
  return feasible.complete(child.embed, child.depth(), {child.blocks[block]}, random);
}

}  // namespace

std::optional<Subnet> mutate(const FeasibleSet& feasible, const Subnet& parent, BlockBias bias, RandomStream& random) {
  const SearchSpace& space = feasible.costs().space();
  const std::uint64_t gene = random.below(16);
  if (gene == 0 && space.embed().size() > 1) {
    Subnet child = parent;
    move_to_width(space, child, other_choice(space.embed(), parent.embed, random));
    return keep_first_blocks(feasible, child, child.depth(), 0, random);
  }
  if ((gene == 1 || gene == 2) && space.depth().size() > 1)
    return keep_first_blocks(feasible, parent, other_choice(space.depth(), parent.depth(), random), 0, random);
  return mutate_block(feasible, parent, bias, random);
}

std::optional<Subnet> cross(const FeasibleSet& feasible, const Subnet& first, const Subnet& second, RandomStream& random) {
  const std::size_t shorter = std::min(first.blocks.size(), second.blocks.size());
  if (shorter < 2) return std::nullopt;
  const std::size_t kept = 1 + random.below(shorter - 1);
  Subnet child = second;
  move_to_width(feasible.costs().space(), child, first.embed);
  std::copy_n(first.blocks.begin(), kept, child.blocks.begin());
  return keep_first_blocks(feasible, child, child.depth(), 0, random);
}

}  // namespace elastiform
