#pragma once

#include <compare>
#include <string>
#include <string_view>
#include <vector>

namespace elastiform {

/// Elastic genes of one block, in absolute numbers. heads 0: no attention; ffn 0: no feed-forward network.
struct BlockGenes {
  int heads = 0;
  int groups = 0;  // KV groups k; heads = k · queries of a group
  int ffn = 0;     // width F
  auto operator<=>(const BlockGenes&) const = default;
};

/// One point of a search space. Text form (docs/subnets.md), e.g. "e320:2xh6f1280,h4f960@0-1,5":
/// embed width, runs of blocks, and after @ the supernet's blocks that are kept (absent: the first ones).
struct Subnet {
  int embed = 0;
  std::vector<BlockGenes> blocks;
  std::vector<int> kept;  // empty: blocks 0 … depth-1; never equal to that list written out
  int rank = 0;           // of LoRA in all blocks, where a tuning has several (Tuning::ranks); 0: the largest, or none

  int depth() const { return static_cast<int>(blocks.size()); }
  /// The supernet's block that stands at place i.
  int block_index(int i) const { return kept.empty() ? i : kept[static_cast<std::size_t>(i)]; }
  /// Embed, depth, blocks from left to right, rank, numerically.
  std::strong_ordering operator<=>(const Subnet& other) const;
  bool operator==(const Subnet& other) const = default;
};

constexpr int kMaxSubnetBlocks = 4096;
constexpr std::size_t kMaxSubnetText = 64 * 1024;

/// Canonical text; parse_subnet(format(s)) == s.
std::string format(const Subnet& subnet);

/// Accepts blanks, split runs and any order of tags. Throws InputError (where: "subnet TEXT") with the position of the first mistake.
Subnet parse_subnet(std::string_view text);

/// First 8 hex digits of the SHA-256 of the canonical text: part of file names.
std::string hash8(const Subnet& subnet);

}  // namespace elastiform
