#include "supernet/tokenizers/unigram.hpp"

#include <algorithm>
#include <limits>

#include "supernet/tokenizers/utf8.hpp"

namespace elastiform {
namespace {

constexpr double kUnknownPenalty = 10;  // kUnkPenalty of sentencepiece

unsigned char byte_at(const std::string& text, std::size_t at) { return static_cast<unsigned char>(text[at]); }

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
  std::sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) { return a.text < b.text; });
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    auto& [begin, end] = begins_[byte_at(pieces_[i].text, 0)];
    if (end == 0) begin = i;
    end = i + 1;
    least = std::min(least, pieces_[i].score);
  }
  unknown_score_ = least - kUnknownPenalty;
}

/// Pieces that `text` begins with, shortest first: the range of pieces that agree so far is narrowed byte by byte.
template <class Found>
void Unigram::each_match(std::string_view text, const Found& found) const {
  auto [low, high] = begins_[static_cast<unsigned char>(text.front())];
  for (std::size_t depth = 1; low < high; ++depth) {
    if (pieces_[low].text.size() == depth) found(pieces_[low++]);
    if (depth == text.size()) return;
    const auto wanted = static_cast<unsigned char>(text[depth]);
    const auto begin = pieces_.begin() + static_cast<std::ptrdiff_t>(low), end = pieces_.begin() + static_cast<std::ptrdiff_t>(high);
    const auto first = std::partition_point(begin, end, [&](const Piece& piece) { return byte_at(piece.text, depth) < wanted; });
    const auto last = std::partition_point(first, end, [&](const Piece& piece) { return byte_at(piece.text, depth) == wanted; });
    low = static_cast<std::size_t>(first - pieces_.begin());
    high = static_cast<std::size_t>(last - pieces_.begin());
  }
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
    each_match(text.substr(at), [&](const Piece& piece) {
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
