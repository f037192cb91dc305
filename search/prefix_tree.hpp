#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "supernet/subnet.hpp"

namespace elastiform {

/// Subnets as a tree of shared prefixes: a root an embed width, below it a node for every distinct choice of the next block.
struct PrefixTree {
  struct Node {
    int embed = 0;
    int block = -1;  // the supernet's; -1: a root
    BlockGenes genes;
    int leaf = -1;  // number of the distinct subnet that ends here; -1: none
    std::vector<Node> children;
  };
  std::vector<Node> roots;
  std::int64_t nodes = 0;    // block forwards that one walk runs
  int leaves = 0;            // distinct subnets
  std::vector<int> leaf_of;  // of each subnet of the list

  static PrefixTree of(std::span<const Subnet> subnets);
};

}  // namespace elastiform
