#include "search/prefix_tree.hpp"

#include <algorithm>

namespace elastiform {
namespace {

/// The child of `nodes` with this choice, made when there is none. Children stay in the order of their first appearance: results do not
/// depend on it, since every leaf has its own number.
PrefixTree::Node& child_of(std::vector<PrefixTree::Node>& nodes, const PrefixTree::Node& wanted, std::int64_t& made) {
  const auto found = std::find_if(nodes.begin(), nodes.end(), [&](const PrefixTree::Node& node) {
    return node.embed == wanted.embed && node.block == wanted.block && node.depth == wanted.depth && node.genes == wanted.genes;
  });
  if (found != nodes.end()) return *found;
  nodes.push_back(wanted);
  ++made;
  return nodes.back();
}

}  // namespace

PrefixTree PrefixTree::of(std::span<const Subnet> subnets, bool by_depth) {
  PrefixTree tree;
  std::int64_t roots = 0;
  for (const Subnet& subnet : subnets) {
    const int depth = by_depth ? subnet.depth() : 0;
    Node* node =
        &child_of(tree.roots, {.embed = subnet.embed, .block = -1, .depth = depth, .genes = {}, .leaf = -1, .children = {}}, roots);
    for (int i = 0; i < subnet.depth(); ++i)
      node = &child_of(node->children,
                       {.embed = subnet.embed,
                        .block = subnet.block_index(i),
                        .depth = depth,
                        .genes = subnet.blocks[static_cast<std::size_t>(i)],
                        .leaf = -1,
                        .children = {}},
                       tree.nodes);
    if (node->leaf < 0) node->leaf = tree.leaves++;
    tree.leaf_of.push_back(node->leaf);
  }
  return tree;
}

}  // namespace elastiform
