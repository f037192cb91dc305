#include "supernet/tokenizers/byte_pair_encoding.hpp"

#include <queue>
#include <tuple>

namespace elastiform {
namespace {

std::uint64_t key_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

/// A token of a piece, linked to its neighbours; merged into the one before it, it is gone.
struct Symbol {
  std::int32_t token = 0;
  std::int64_t before = -1, after = -1;
  bool gone = false;
};

struct Candidate {
  std::uint32_t rank = 0;
  std::int64_t left = 0;
  std::int32_t merged = 0;
  bool operator>(const Candidate& other) const { return std::tie(rank, left) > std::tie(other.rank, other.left); }
};

}  // namespace

void BytePairEncoding::add_merge(std::int32_t left, std::int32_t right, std::int32_t merged) {
  merges_[key_of(left, right)] = {next_rank_++, merged};
}

const BytePairEncoding::Merge* BytePairEncoding::find(std::int32_t left, std::int32_t right) const {
  const auto found = merges_.find(key_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BytePairEncoding::encode(std::string_view piece, std::vector<std::int32_t>& tokens) const {
  if (!whole.empty()) {
    const auto found = whole.find(std::string(piece));
    if (found != whole.end()) return tokens.push_back(found->second);
  }
  std::vector<std::int32_t> first;
  for (const char c : piece)
    if (const std::int32_t token = byte_tokens[static_cast<unsigned char>(c)]; token != kNone) first.push_back(token);
  merge(first, tokens);
}

void BytePairEncoding::merge(std::span<const std::int32_t> first, std::vector<std::int32_t>& tokens) const {
  std::vector<Symbol> symbols;
  for (const std::int32_t token : first) {
    const auto place = static_cast<std::int64_t>(symbols.size());
    if (place > 0) symbols.back().after = place;
    symbols.push_back({.token = token, .before = place - 1});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](std::int64_t left) {
    if (left < 0) return;
    const Symbol& symbol = symbols[static_cast<std::size_t>(left)];
    if (symbol.after < 0) return;
    if (const Merge* merge = find(symbol.token, symbols[static_cast<std::size_t>(symbol.after)].token))
      queue.push({merge->rank, left, merge->merged});
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) consider(static_cast<std::int64_t>(i));
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[static_cast<std::size_t>(best.left)];
    if (left.gone || left.after < 0) continue;
    Symbol& right = symbols[static_cast<std::size_t>(left.after)];
    const Merge* merge = find(left.token, right.token);
    if (merge == nullptr || merge->merged != best.merged) continue;  // one of the two has been merged since
    left.token = best.merged;
    left.after = right.after;
    right.gone = true;
    if (left.after >= 0) symbols[static_cast<std::size_t>(left.after)].before = best.left;
    consider(left.before);
    consider(best.left);
  }
  for (const Symbol& symbol : symbols)
    if (!symbol.gone) tokens.push_back(symbol.token);
}

}  // namespace elastiform
