// A sentencepiece vocabulary in the words of Hugging Face's tokenizers library.
#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "kernels/errors.hpp"
#include "supernet/tokenizers/sentencepiece_model.hpp"
#include "supernet/tokenizers/text_normalizer.hpp"
#include "supernet/tokenizers/tokenizer_json.hpp"
#include "supernet/tokenizers/utf8.hpp"

namespace elastiform::sentencepiece {
namespace {

using Json = nlohmann::json;

// Every split of a piece is looked up: sentencepiece's own limit is 16 characters, files with up to 128 exist.
constexpr std::size_t kLongestPiece = 512;
// Every way to make a piece is a merge: of Gemma's 256,000 pieces 0.6 million.
constexpr std::size_t kMostMerges = 2'000'000, kMergesAPiece = 64, kMostMergeBytes = 32 << 20;
// A byte's score in Unigram. The library would meet "<0x0A>" in a text, which sentencepiece never does; so bad a piece it never takes.
constexpr double kByteScore = -1e6;

std::string place_of(const std::string& where, std::size_t id) { return where + ": piece " + std::to_string(id); }

std::string byte_text(int byte) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
}

void check_bytes(const std::unordered_set<std::string>& bytes, const std::string& where) {
  if (bytes.empty()) return;
  for (int byte = 0; byte < 256; ++byte)
    if (bytes.count(byte_text(byte)) == 0) throw InputError({where, "a piece for each byte", "none for " + byte_text(byte), ""});
  if (bytes.size() > 256) throw InputError({where, "256 pieces of type BYTE", std::to_string(bytes.size()) + " of them", ""});
}

/// Pieces that are found in a text before anything else is: only where a tokenizer.json finds them in the same places.
void check_user_defined(const Model& model, const std::string& where) {
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const std::string& text = model.pieces[i].text;
    if (model.pieces[i].kind != Kind::user_defined) continue;
    if (model.unigram)
      throw InputError({place_of(where, i), "no user-defined pieces in a Unigram model", token_in_quotes(text), kOtherTokenizer});
    if (model.finds_tokens_first) continue;
    if (model.prefix_space)
      throw InputError({place_of(where, i), "no user-defined pieces where add_dummy_prefix puts a space before a text",
                        token_in_quotes(text), kOtherTokenizer});
    const bool changes = text.find(' ') != std::string::npos || (model.collapses_spaces && std::string_view(text).ends_with(kSpaceMark));
    if (changes)
      throw InputError({place_of(where, i), "a user-defined piece that the model's own normalizer does not change", token_in_quotes(text),
                        kOtherTokenizer});
  }
}

/// What both kinds of model ask of their pieces, and what is asked so that the two libraries agree.
void check(const Model& model, const std::string& where) {
  std::unordered_set<std::string> seen, bytes;
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    if (piece.kind == Kind::unused) continue;
    if (piece.text.empty() || !is_utf8(piece.text)) throw InputError({place_of(where, i), "text in UTF-8", "something else", ""});
    if (!seen.insert(piece.text).second)
      throw InputError({place_of(where, i), "every piece once", token_in_quotes(piece.text) + " twice", kOtherTokenizer});
    if (!std::isfinite(piece.score)) throw InputError({place_of(where, i), "a finite score", std::to_string(piece.score), ""});
    if (piece.kind == Kind::normal && piece.text.size() > kLongestPiece)
      throw InputError({place_of(where, i), "at most " + std::to_string(kLongestPiece) + " bytes", std::to_string(piece.text.size()), ""});
    if (piece.kind == Kind::byte) bytes.insert(piece.text);
    if (piece.kind == Kind::unknown) ++unknown;
  }
  check_bytes(bytes, where);
  check_user_defined(model, where);
  if (unknown > 1 || (unknown == 0 && (bytes.empty() || model.unigram)))
    throw InputError({where, "one piece of type UNKNOWN", std::to_string(unknown) + " of them", ""});
}

/// Pieces that a text's characters can become, and their ids.
using Ids = std::unordered_map<std::string, std::size_t>;

Ids ids_of(const Model& model) {
  Ids ids;
  for (std::size_t i = 0; i < model.pieces.size(); ++i)
    if (model.pieces[i].kind == Kind::normal || model.pieces[i].kind == Kind::user_defined) ids.emplace(model.pieces[i].text, i);
  return ids;
}

/// A character that is no piece itself could be merged by sentencepiece, and not by the tokenizers library.
void check_characters(const Model& model, const Ids& ids, const std::string& where) {
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const std::string& text = model.pieces[i].text;
    if (model.pieces[i].kind != Kind::normal) continue;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = utf8_length(text, at);
      if (ids.count(text.substr(at, length)) == 0)
        throw InputError({place_of(where, i), "characters that are pieces, too",
                          token_in_quotes(text) + " without " + token_in_quotes(text.substr(at, length)), kOtherTokenizer});
      at += length;
    }
  }
}

struct Merge {
  float score;
  std::size_t id, left_bytes;  // of the whole, and of its left part
};

/// All ways to make a piece of two, best score first; the ways to make one piece stand together, the longest left part first.
std::vector<Merge> merges_of(const Model& model, const Ids& ids, const std::string& where) {
  std::vector<Merge> merges;
  std::size_t bytes = 0;
  const std::size_t most = std::min(kMostMerges, kMergesAPiece * model.pieces.size());
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    if (piece.kind != Kind::normal) continue;
    const auto is_part = [&](const std::string& part) {
      const auto found = ids.find(part);
      return found != ids.end() && model.pieces[found->second].kind == Kind::normal;
    };
    for (std::size_t at = utf8_length(piece.text, 0); at < piece.text.size(); at += utf8_length(piece.text, at)) {
      if (!is_part(piece.text.substr(0, at)) || !is_part(piece.text.substr(at))) continue;
      bytes += piece.text.size();
      if (bytes > kMostMergeBytes)
        throw InputError({where, "ways to make its pieces of two others that take at most 32 MiB", "more", kOtherTokenizer});
      if (merges.size() == most)
        throw InputError(
            {where, "at most " + std::to_string(most) + " ways to make its pieces of two others", "more of them", kOtherTokenizer});
      merges.push_back({piece.score, i, at});
    }
  }
  std::sort(merges.begin(), merges.end(),
            [](const Merge& a, const Merge& b) { return std::tie(b.score, a.id, b.left_bytes) < std::tie(a.score, b.id, a.left_bytes); });
  for (std::size_t i = 1; i < merges.size(); ++i)
    if (merges[i].score == merges[i - 1].score && merges[i].id != merges[i - 1].id)
      throw InputError({where, "merged pieces with scores of their own, because a tokenizer.json puts them in order",
                        token_in_quotes(model.pieces[merges[i - 1].id].text) + " and " + token_in_quotes(model.pieces[merges[i].id].text) +
                            " with one score",
                        kOtherTokenizer});
  return merges;
}

Json bpe(const Model& model, const std::string& where) {
  const Ids ids = ids_of(model);
  check_characters(model, ids, where);
  Json vocabulary = Json::object(), merges = Json::array(), unknown = nullptr;
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    if (model.pieces[i].kind == Kind::unused) continue;
    vocabulary[model.pieces[i].text] = i;
    if (model.pieces[i].kind == Kind::unknown) unknown = model.pieces[i].text;
  }
  for (const Merge& merge : merges_of(model, ids, where)) {
    const std::string& text = model.pieces[merge.id].text;
    merges.push_back(Json::array({text.substr(0, merge.left_bytes), text.substr(merge.left_bytes)}));
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", unknown},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", true},
          {"ignore_merges", false},
          {"vocab", std::move(vocabulary)},
          {"merges", std::move(merges)}};
}

Json unigram(const Model& model, const std::string& where) {
  check_characters(model, ids_of(model), where);
  Json vocabulary = Json::array(), unknown = nullptr;
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    vocabulary.push_back(Json::array({piece.text, piece.kind == Kind::byte ? kByteScore : static_cast<double>(piece.score)}));
    if (piece.kind == Kind::unknown) unknown = i;
  }
  return {{"type", "Unigram"}, {"unk_id", unknown}, {"vocab", std::move(vocabulary)}};
}

Json replace(const Json& pattern, const char* content) { return {{"type", "Replace"}, {"pattern", pattern}, {"content", content}}; }

Json normalizer_of(const Model& model) {
  Json steps = Json::array();
  if (model.collapses_spaces) {
    steps.push_back(replace({{"Regex", kBothEnds}}, ""));
    steps.push_back(replace({{"Regex", kRuns}}, " "));
  }
  if (model.prefix_space) steps.push_back({{"type", "Prepend"}, {"prepend", "▁"}});
  steps.push_back(replace({{"String", " "}}, "▁"));
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

Json decoder_of(const Model& model, bool bytes) {
  Json steps = Json::array({replace({{"String", "▁"}}, " ")});
  if (bytes) steps.push_back({{"type", "ByteFallback"}});
  steps.push_back({{"type", "Fuse"}});
  if (model.prefix_space) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

Json added_of(const Model& model) {
  Json added = Json::array();
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    if (piece.kind != Kind::control && piece.kind != Kind::unknown && piece.kind != Kind::user_defined) continue;
    const bool special = piece.kind != Kind::user_defined;
    added.push_back({{"id", i},
                     {"content", piece.text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", !special && !model.finds_tokens_first},
                     {"special", special}});
  }
  return added;
}

}  // namespace

std::string tokenizer_json(const Model& model, const std::string& where) {
  check(model, where);
  const bool bytes = std::any_of(model.pieces.begin(), model.pieces.end(), [](const Piece& piece) { return piece.kind == Kind::byte; });
  Json json{{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = added_of(model);
  json["normalizer"] = normalizer_of(model);
  json["pre_tokenizer"] = nullptr;
  json["post_processor"] = nullptr;
  if (model.begin >= 0) json["post_processor"] = beginning_template(model.pieces[static_cast<std::size_t>(model.begin)].text, model.begin);
  json["decoder"] = decoder_of(model, bytes);
  json["model"] = model.unigram ? unigram(model, where) : bpe(model, where);
  json["model"]["byte_fallback"] = bytes;
  return json.dump(1) + "\n";
}

}  // namespace elastiform::sentencepiece
