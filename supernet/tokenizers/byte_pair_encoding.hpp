#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace elastiform {

/// Merges of byte-pair encoding (arXiv 1508.07909) over bytes or other tokens: of all pairs of neighbours that have a rank, the lowest, and
/// of equals the leftmost, becomes one token, until none has.
class BytePairEncoding {
 public:
  static constexpr std::int32_t kNone = -1;

  /// The token of a byte; kNone: the vocabulary lacks it, and the byte is left out, as the tokenizers library does.
  std::array<std::int32_t, 256> byte_tokens{};
  /// Pieces that are a token as a whole are not merged (Llama 3's ignore_merges): their tokens. Empty otherwise.
  std::unordered_map<std::string, std::int32_t> whole;

  void add_merge(std::int32_t left, std::int32_t right, std::int32_t merged);  // of the next rank; a repeated pair takes it too
  /// Appends the tokens of one piece, whose bytes are the first tokens.
  void encode(std::string_view piece, std::vector<std::int32_t>& tokens) const;
  /// Appends what merges make of `first`.
  void merge(std::span<const std::int32_t> first, std::vector<std::int32_t>& tokens) const;

 private:
  struct Merge {
    std::uint32_t rank = 0;
    std::int32_t merged = 0;
  };
  const Merge* find(std::int32_t left, std::int32_t right) const;

  std::unordered_map<std::uint64_t, Merge> merges_;
  std::uint32_t next_rank_ = 0;
};

}  // namespace elastiform
