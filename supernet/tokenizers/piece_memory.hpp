#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace elastiform {

/// The tokens of pieces, each piece made once. Words repeat: of English text more than 9 of 10 pieces come from here.
template <class Model>
class PieceMemory {
 public:
  explicit PieceMemory(const Model& model) : model_(model) {}
  void encode(std::string_view piece, std::vector<std::int32_t>& tokens) {
    if (piece.size() > kLongest) return model_.encode(piece, tokens);
    key_.assign(piece);
    auto found = known_.find(key_);
    if (found == known_.end()) {
      if (known_.size() == kPieces) known_.clear();
      found = known_.emplace(key_, std::vector<std::int32_t>{}).first;
      model_.encode(piece, found->second);
    }
    tokens.insert(tokens.end(), found->second.begin(), found->second.end());
  }

 private:
  // Longer pieces are rare, and more words are no longer frequent.
  static constexpr std::size_t kPieces = 1 << 17, kLongest = 64;
  const Model& model_;
  std::string key_;
  std::unordered_map<std::string, std::vector<std::int32_t>> known_;
};

}  // namespace elastiform
