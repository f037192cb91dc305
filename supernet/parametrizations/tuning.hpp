#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace elastiform {

/// The linear maps of a block.
enum class LinearMap : std::uint8_t { query, key, value, out, gate, up, down };
constexpr std::array<std::string_view, 7> kLinearMaps{"query", "key", "value", "out", "gate", "up", "down"};

/// Some of them.
class LinearMaps {
 public:
  constexpr bool has(LinearMap map) const { return (bits_ >> static_cast<unsigned>(map) & 1u) != 0; }
  constexpr void insert(LinearMap map) { bits_ |= 1u << static_cast<unsigned>(map); }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr bool operator==(const LinearMaps&) const = default;
  static constexpr LinearMaps all() {
    LinearMaps maps;
    for (std::size_t i = 0; i < kLinearMaps.size(); ++i) maps.insert(static_cast<LinearMap>(i));
    return maps;
  }

 private:
  std::uint32_t bits_ = 0;
};

LinearMap find_linear_map(std::string_view name, std::string_view where);  // throws InputError
std::vector<std::string_view> names_of(LinearMaps maps);

/// Which tensors of a network learn, and what a method of tuning adds to them; part of the model, so that everything that is made of a space
/// (weight table, network, plans, costs) knows it. The default: all learn, nothing is added.
enum class TuningMethod : std::uint8_t { full, bitfit, lora, ssf, adapter, prompt, prefix };
inline constexpr int kUsualRank = 8, kUsualWidth = 16, kUsualTokens = 16, kUsualKeys = 16;
inline constexpr double kUsualAlpha = 16;
struct Tuning {
  TuningMethod method = TuningMethod::full;
  LinearMaps targets;  // the linear maps that a method adds to
  int rank = 0;        // lora: columns of A and rows of B
  double alpha = 0;    // lora: the map is W + alpha/rank · A·B
  // lora: ranks that subnets may have, ascending, the last is `rank`; empty: that one alone. A smaller one is the first columns of A and
  // rows of B, with the same factor (arXiv 2404.10934).
  std::vector<int> ranks;
  int width = 0;   // adapter: of the bottleneck after each branch
  int tokens = 0;  // prompt: learned vectors in front of each sequence
  int keys = 0;    // prefix: learned keys and values in front of those of each attention
  bool operator==(const Tuning&) const = default;
};

}  // namespace elastiform
