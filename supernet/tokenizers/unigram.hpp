#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "supernet/tokenizers/sorted_texts.hpp"

namespace elastiform {

/// The unigram language model (arXiv 1804.10959): of all ways to write a text as pieces, the one with the largest sum of scores, by
/// Viterbi's algorithm. A character that is no piece costs 10 more than the worst piece, as in sentencepiece. Sums are float64, as in the
/// tokenizers library; sentencepiece adds float32, so that its ids are the same within rounding: ways whose sums differ by less may change
/// places.
class Unigram {
 public:
  /// `text` is not empty and was not added before; `score` is finite.
  void add(std::string text, double score, std::int32_t id);
  /// After the last add(); `unknown` is the piece that stands for what is no piece.
  void finish(std::int32_t unknown);
  /// Calls known(id) and unknown(text) from left to right; what is unknown is called for as a whole, as far as it goes.
  void encode(std::string_view text, const std::function<void(std::int32_t)>& known,
              const std::function<void(std::string_view)>& unknown) const;

 private:
  struct Piece {
    std::string text;
    double score = 0;
    std::int32_t id = 0;
  };
  struct Node;  // the best way to reach a place in the text
  std::vector<Node> best_ways(std::string_view text) const;

  std::vector<Piece> pieces_;  // by text
  FirstBytes begins_{};
  double unknown_score_ = 0;
  std::int32_t unknown_ = -1;
};

}  // namespace elastiform
