// A sentencepiece vocabulary in the words of Hugging Face's tokenizers library.
#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/tokenizers/sentencepiece_model.hpp"
#include "supernet/tokenizers/text_normalizer.hpp"
#include "supernet/tokenizers/utf8.hpp"

namespace elastiform::sentencepiece {
namespace {

using Json = nlohmann::json;

// Every split of a piece is looked up: sentencepiece's own limit is 16 characters, files with up to 128 exist.
constexpr std::size_t kLongestPiece = 512;
// A byte's score in Unigram. The library would meet "<0x0A>" in a text, which sentencepiece never does; so bad a piece it never takes.
constexpr double kByteScore = -1e6;
constexpr const char* kOther = "--tokenizer, or data.tokenizer, can name another one";

std::string place_of(const std::string& where, std::size_t id) { return where + ": piece " + std::to_string(id); }
std::string quoted(const std::string& text) { return "'" + text.substr(0, 32) + "'"; }

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

/// What both kinds of model ask of their pieces, and what is asked so that the two libraries agree.
void check(const Model& model, const std::string& where) {
  std::unordered_set<std::string> seen, bytes;
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    if (piece.kind == Kind::unused) continue;
    if (piece.text.empty() || !is_utf8(piece.text)) throw InputError({place_of(where, i), "text in UTF-8", "something else", ""});
    if (!seen.insert(piece.text).second) throw InputError({place_of(where, i), "every piece once", quoted(piece.text) + " twice", kOther});
    if (!std::isfinite(piece.score)) throw InputError({place_of(where, i), "a finite score", std::to_string(piece.score), ""});
    if (piece.kind == Kind::normal && piece.text.size() > kLongestPiece)
      throw InputError({place_of(where, i), "at most " + std::to_string(kLongestPiece) + " bytes", std::to_string(piece.text.size()), ""});
    if (piece.kind == Kind::byte) bytes.insert(piece.text);
    if (piece.kind == Kind::unknown) ++unknown;
  }
  check_bytes(bytes, where);
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
        throw InputError(
            {place_of(where, i), "characters that are pieces, too", quoted(text) + " without " + quoted(text.substr(at, length)), kOther});
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
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    if (piece.kind != Kind::normal) continue;
    const auto is_part = [&](const std::string& part) {
      const auto found = ids.find(part);
      return found != ids.end() && model.pieces[found->second].kind == Kind::normal;
    };
    for (std::size_t at = utf8_length(piece.text, 0); at < piece.text.size(); at += utf8_length(piece.text, at))
      if (is_part(piece.text.substr(0, at)) && is_part(piece.text.substr(at))) merges.push_back({piece.score, i, at});
  }
  std::sort(merges.begin(), merges.end(),
            [](const Merge& a, const Merge& b) { return std::tie(b.score, a.id, b.left_bytes) < std::tie(a.score, b.id, a.left_bytes); });
  for (std::size_t i = 1; i < merges.size(); ++i)
    if (merges[i].score == merges[i - 1].score && merges[i].id != merges[i - 1].id)
      throw InputError({where, "merged pieces with scores of their own, because a tokenizer.json puts them in order",
                        quoted(model.pieces[merges[i - 1].id].text) + " and " + quoted(model.pieces[merges[i].id].text) + " with one score",
                        kOther});
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

bool has_user_defined(const Model& model) {
  return std::any_of(model.pieces.begin(), model.pieces.end(), [](const Piece& piece) { return piece.kind == Kind::user_defined; });
}

/// Whether the space before a text is Metaspace's matter, which comes after user-defined pieces were found in the text. Elsewhere it is the
/// normalizer's, which would put it before those pieces, too.
bool has_metaspace(const Model& model) { return model.prefix_space && !model.prefix_behind_tokens && has_user_defined(model); }

Json normalizer_of(const Model& model) {
  const bool metaspace = has_metaspace(model);
  Json steps = Json::array();
  if (model.collapses_spaces) {
    steps.push_back(replace({{"Regex", metaspace ? kRightEnd : kBothEnds}}, ""));
    steps.push_back(replace({{"Regex", kRuns}}, " "));
  }
  // Metaspace puts no space before one, and sentencepiece does.
  if (metaspace && !model.collapses_spaces) steps.push_back(replace({{"Regex", kSpaceFirst}}, "  "));
  if (metaspace) steps.push_back(replace({{"Regex", kMarkFirst}}, "▁▁"));
  if (model.prefix_space && !metaspace) steps.push_back({{"type", "Prepend"}, {"prepend", "▁"}});
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
                     {"normalized", !special && !model.prefix_behind_tokens},
                     {"special", special}});
  }
  return added;
}

Json template_of(const Model& model) {
  if (model.begin < 0) return nullptr;
  const std::string& text = model.pieces[static_cast<std::size_t>(model.begin)].text;
  const Json token{{"SpecialToken", {{"id", text}, {"type_id", 0}}}}, first{{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json second{{"Sequence", {{"id", "B"}, {"type_id", 0}}}};
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({token, first})},
          {"pair", Json::array({token, first, second})},
          {"special_tokens", {{text, {{"id", text}, {"ids", Json::array({model.begin})}, {"tokens", Json::array({text})}}}}}};
}

}  // namespace

std::string tokenizer_json(const Model& model, const std::string& where) {
  check(model, where);
  const bool bytes = std::any_of(model.pieces.begin(), model.pieces.end(), [](const Piece& piece) { return piece.kind == Kind::byte; });
  Json json{{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = added_of(model);
  json["normalizer"] = normalizer_of(model);
  json["pre_tokenizer"] = nullptr;
  if (has_metaspace(model))
    json["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", false}};
  json["post_processor"] = template_of(model);
  json["decoder"] = decoder_of(model, bytes);
  json["model"] = model.unigram ? unigram(model, where) : bpe(model, where);
  json["model"]["byte_fallback"] = bytes;
  return json.dump(1) + "\n";
}

}  // namespace elastiform::sentencepiece
