#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "supernet/subnet.hpp"

namespace elastiform {

/// Subnets as a tree of shared prefixes: a root an embed width (and depth, where it matters), below it a node for every distinct choice of
/// the next block.
struct PrefixTree {
  struct Node {
    int embed = 0;
    int block = -1;  // the supernet's; -1: a root
    int depth = 0;   // of the subnets that pass here, where blocks depend on it; else 0
    BlockGenes genes;
    int leaf = -1;  // number of the distinct subnet that ends here; -1: none
    std::vector<Node> children;
  };
  std::vector<Node> roots;
  std::int64_t nodes = 0;    // block forwards that one walk runs
  int leaves = 0;            // distinct subnets
  std::vector<int> leaf_of;  // of each subnet of the list

  /// by_depth: blocks depend on their subnet's depth (Network::depends_on_depth), so only subnets of one depth share them.
  static PrefixTree of(std::span<const Subnet> subnets, bool by_depth = false);
};

}  // namespace elastiform
