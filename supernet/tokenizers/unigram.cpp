#include "supernet/tokenizers/unigram.hpp"

#include <algorithm>
#include <limits>

#include "supernet/tokenizers/utf8.hpp"

namespace elastiform {
namespace {

constexpr double kUnknownPenalty = 10;  // kUnkPenalty of sentencepiece

}  // namespace

struct Unigram::Node {
  double score = 0;
  std::size_t begin = std::numeric_limits<std::size_t>::max();  // of the last piece; none: not reached
  std::int32_t id = -1;
  bool reached() const { return begin != std::numeric_limits<std::size_t>::max(); }
};

void Unigram::add(std::string text, double score, std::int32_t id) { pieces_.push_back({std::move(text), score, id}); }

void Unigram::finish(std::int32_t unknown) {
  unknown_ = unknown;
  double least = std::numeric_limits<double>::infinity();
  for (const Piece& piece : pieces_) least = std::min(least, piece.score);
  unknown_score_ = (pieces_.empty() ? 0 : least) - kUnknownPenalty;
  begins_ = sort_by_text(pieces_);
}

std::vector<Unigram::Node> Unigram::best_ways(std::string_view text) const {
  std::vector<Node> ends(text.size() + 1);
  for (std::size_t at = 0; at < text.size();) {
    const double until_here = ends[at].score;
    const auto reach = [&](std::size_t length, double score, std::int32_t id) {
      Node& node = ends[at + length];
      if (!node.reached() || until_here + score > node.score) node = {until_here + score, at, id};
    };
    const std::size_t character = std::max<std::size_t>(utf8_length(text, at), 1);  // a byte that begins none goes alone
    bool is_piece = false;
    each_match(pieces_, begins_, text.substr(at), [&](const Piece& piece) {
      reach(piece.text.size(), piece.score, piece.id);
      is_piece = is_piece || piece.text.size() == character;
    });
    if (!is_piece) reach(character, unknown_score_, unknown_);
    at += character;
  }
  return ends;
}

void Unigram::encode(std::string_view text, const std::function<void(std::int32_t)>& known,
                     const std::function<void(std::string_view)>& unknown) const {
  const std::vector<Node> ends = best_ways(text);
  std::vector<std::size_t> path;
  for (std::size_t end = text.size(); end > 0; end = ends[end].begin) path.push_back(end);
  std::size_t unknown_from = text.size();
  const auto flush = [&](std::size_t end) {
    if (unknown_from < end) unknown(text.substr(unknown_from, end - unknown_from));
    unknown_from = text.size();
  };
  for (auto end = path.rbegin(); end != path.rend(); ++end) {
    const Node& node = ends[*end];
    if (node.id == unknown_) {
      unknown_from = std::min(unknown_from, node.begin);
      continue;
    }
    flush(node.begin);
    known(node.id);
  }
  flush(text.size());
}

}  // namespace elastiform
