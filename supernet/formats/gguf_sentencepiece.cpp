#include "supernet/formats/gguf_sentencepiece.hpp"

#include <algorithm>
#include <set>
#include <string_view>
#include <unordered_map>

#include "kernels/errors.hpp"
#include "supernet/tokenizers/sentencepiece_model.hpp"
#include "supernet/tokenizers/text_normalizer.hpp"
#include "supernet/tokenizers/tokenizer.hpp"
#include "supernet/tokenizers/utf8.hpp"

namespace elastiform::gguf::sentencepiece {
namespace {

using Json = nlohmann::json;
using elastiform::sentencepiece::Kind;
using elastiform::sentencepiece::Model;

constexpr std::size_t kLongestToken = 512;  // bytes of a token whose splits are looked up

Json steps_of(const Json& tokenizer, const char* key, const char* list) {
  if (!tokenizer.contains(key) || tokenizer[key].is_null()) return Json::array();
  const Json& top = tokenizer[key];
  return top.value("type", "") == "Sequence" ? top.at(list) : Json::array({top});
}

/// How a tokenizer.json treats spaces, where llama.cpp can do it: all become U+2581, and one may be put before a text.
struct Spaces {
  bool prepends = false, metaspace = false, never = false, only_first = false;
  bool prefix() const { return prepends || (metaspace && !never); }
};

std::optional<Spaces> spaces_of(const Json& tokenizer) {
  Spaces spaces;
  bool replaces = false;
  const std::string mark(kSpaceMark);
  for (const Json& step : steps_of(tokenizer, "normalizer", "normalizers")) {
    const bool prepends = step.value("type", "") == "Prepend" && step.value("prepend", "") == mark;
    const bool marks =
        step.value("type", "") == "Replace" && step.at("pattern") == Json{{"String", " "}} && step.value("content", "") == mark;
    if (prepends ? spaces.prepends || replaces : !marks) return std::nullopt;
    spaces.prepends = spaces.prepends || prepends;
    replaces = replaces || marks;
  }
  for (const Json& step : steps_of(tokenizer, "pre_tokenizer", "pretokenizers")) {
    spaces.metaspace = true;
    const bool never = step.contains("prepend_scheme") ? step["prepend_scheme"] == "never" : step.value("add_prefix_space", true) == false;
    spaces.never = never;
    spaces.only_first = step.value("prepend_scheme", "") == "first";
  }
  if (!replaces && !spaces.metaspace) return std::nullopt;
  return spaces;
}

bool cuts_at_marks(const Json& tokenizer) {
  for (const Json& step : steps_of(tokenizer, "pre_tokenizer", "pretokenizers"))
    if (step.value("split", true)) return true;
  return false;
}

struct Added {
  std::set<std::string> texts;
  std::string without_place;  // one that llama.cpp would meet otherwise
  std::string behind_space;   // one that is found only where a text begins or a space stands before it
};

/// Tokens that are found in a text. llama.cpp finds them before spaces become U+2581, and writes U+2581 in those that are not special.
Added added_of(const Json& tokenizer, const Spaces& spaces) {
  Added added;
  if (!tokenizer.contains("added_tokens") || tokenizer["added_tokens"].is_null()) return added;
  for (const Json& token : tokenizer["added_tokens"]) {
    const auto text = token.at("content").get<std::string>();
    added.texts.insert(text);
    const bool special = token.value("special", false), normalized = token.value("normalized", !special);
    const bool marked = text.find(kSpaceMark) != std::string::npos, behind_space = normalized && spaces.prepends;
    if (marked ? !special || normalized : behind_space && !special) added.without_place = text;
    else if (behind_space) added.behind_space = text;
  }
  return added;
}

/// Merges in groups of one token each; absent where a token is merged at several ranks, or in fewer ways than there are.
class Ranks {
 public:
  Ranks(const Json& tokenizer, const std::set<std::string>& added) {
    for (const auto& [token, id] : tokenizer.at("model").at("vocab").items())
      if (added.count(token) == 0 && type_of(token) == static_cast<std::int32_t>(Kind::normal)) ids_.emplace(token, id.get<std::int64_t>());
    for (const Json& merge : tokenizer.at("model").at("merges")) add(merge);
  }
  bool are_of_tokens(bool cut_at_marks) const {
    if (!grouped_) return false;
    for (const auto& [token, id] : ids_)
      if (token.size() > kLongestToken || !is_merged_in_every_way(token, cut_at_marks)) return false;
    return true;
  }
  std::vector<float> scores(int rows) const {
    std::vector<float> scores(static_cast<std::size_t>(rows), 0);
    for (const auto& [token, id] : ids_) scores[static_cast<std::size_t>(id)] = -static_cast<float>(groups_.size());
    for (const auto& [token, group] : groups_) scores[static_cast<std::size_t>(ids_.at(token))] = -static_cast<float>(group.rank);
    return scores;
  }

 private:
  struct Group {
    std::size_t rank = 0;
    std::set<std::size_t> lengths;  // of left parts
  };
  void add(const Json& merge) {
    std::string left, right;
    if (merge.is_string()) {
      const auto pair = merge.get<std::string>();
      left = pair.substr(0, pair.find(' ')), right = pair.substr(pair.find(' ') + 1);
    } else {
      left = merge.at(0).get<std::string>(), right = merge.at(1).get<std::string>();
    }
    const std::string token = left + right;
    if (ids_.count(token) == 0) return;  // an added token, which is found before anything is merged
    const auto [group, is_new] = groups_.try_emplace(token, Group{groups_.size(), {}});
    grouped_ = grouped_ && (is_new || token == last_);
    group->second.lengths.insert(left.size());
    last_ = token;
  }
  bool is_merged_in_every_way(const std::string& token, bool cut_at_marks) const {
    const auto group = groups_.find(token);
    for (std::size_t at = utf8_length(token, 0); at < token.size(); at += utf8_length(token, at)) {
      const bool merged = group != groups_.end() && group->second.lengths.count(at) != 0;
      const bool possible = ids_.count(token.substr(0, at)) != 0 && ids_.count(token.substr(at)) != 0;
      if (merged != possible) return false;
    }
    return !(cut_at_marks && group != groups_.end() && token.find(kSpaceMark, 1) != std::string::npos);
  }

  std::unordered_map<std::string, std::int64_t> ids_;
  std::unordered_map<std::string, Group> groups_;
  bool grouped_ = true;
  std::string last_;
};

}  // namespace

std::int32_t type_of(const std::string& token) {
  const bool byte = token.size() == 6 && token.compare(0, 3, "<0x") == 0 && token.back() == '>';
  return static_cast<std::int32_t>(byte ? Kind::byte : Kind::normal);
}

bool has_prefix_space(const Json& tokenizer) {
  const auto spaces = spaces_of(tokenizer);
  return spaces && spaces->prefix();
}

std::string note_on(const Json& tokenizer) {
  const auto spaces = spaces_of(tokenizer);
  if (!spaces || !spaces->prefix()) return "";
  if (const std::string token = added_of(tokenizer, *spaces).behind_space; !token.empty())
    return "llama.cpp finds " + token_in_quotes(token) +
           " everywhere in a text, the tokenizer only where the text begins or a space stands before it";
  if (spaces->prepends) return "";
  const std::string where = spaces->only_first ? "before a text that begins with one, and behind added tokens inside a text"
                                               : "where a text, or what stands behind an added token, begins with one";
  return "llama.cpp puts a space also " + where + "; the tokenizer does not, and such texts have other ids there";
}

std::string why_not(const Json& tokenizer) {
  if (tokenizer.at("model").value("type", "") == "Unigram")
    return "its tokenizer is a Unigram model, and llama.cpp has no such model for a llama";
  if (!tokenizer["model"].value("byte_fallback", false)) return "its tokenizer has no tokens of bytes, without which llama.cpp ends itself";
  const auto spaces = spaces_of(tokenizer);
  if (!spaces) return "its tokenizer changes texts otherwise than by U+2581 for spaces and one space before a text";
  const Added added = added_of(tokenizer, *spaces);
  if (!added.without_place.empty()) return "llama.cpp finds its added token " + token_in_quotes(added.without_place) + " in other places";
  if (!Ranks(tokenizer, added.texts).are_of_tokens(cuts_at_marks(tokenizer)))
    return "llama.cpp merges whatever two tokens make the token with the best score, and the tokenizer's merges are others";
  return "";
}

std::vector<float> scores_of(const Json& tokenizer, int rows) {
  return Ranks(tokenizer, added_of(tokenizer, *spaces_of(tokenizer)).texts).scores(rows);
}

namespace {

/// llama.cpp merges two neighbours to a token of any kind, and gives its id to a text, also where that kind is "unused".
void check_unused(const Model& model, const std::string& where) {
  std::set<std::string_view> used;
  for (const auto& piece : model.pieces)
    if (piece.kind != Kind::unused) used.insert(piece.text);
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const std::string_view text = model.pieces[i].text;
    if (model.pieces[i].kind != Kind::unused || used.count(text) != 0) continue;
    const auto length = [&](std::size_t at) { return std::max<std::size_t>(utf8_length(text, at), 1); };
    const auto is_part = [&](std::string_view part) {
      return std::max<std::size_t>(utf8_length(part, 0), 1) == part.size() || used.count(part) != 0;
    };
    bool made = text.size() > kLongestToken || (!text.empty() && length(0) == text.size());
    for (std::size_t at = length(0); at < text.size() && !made; at += length(at))
      made = is_part(text.substr(0, at)) && is_part(text.substr(at));
    if (made)
      throw InputError(
          {where, "unused tokens that no two tokens make", token_in_quotes(text) + ", id " + std::to_string(i), kOtherTokenizer});
  }
}

}  // namespace

std::string tokenizer_of(const Reader& file) {
  const std::string key = "tokenizer.ggml.", where = file.path() + ": " + key + "tokens";
  const auto flag = [&](const std::string& name, bool otherwise) { return file.has_key(key + name) ? file.flag(key + name) : otherwise; };
  const std::vector<std::string> texts = file.texts(key + "tokens");
  const std::vector<double> scores = file.reals(key + "scores", texts.size());
  const std::vector<std::int64_t> types = file.integers(key + "token_type", texts.size());
  Model model{.pieces = {}, .prefix_space = flag("add_space_prefix", true)};
  model.finds_tokens_first = true;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (types[i] < 1 || types[i] > 6)
      throw InputError({file.path() + ": " + key + "token_type", "types from 1 to 6", std::to_string(types[i]), ""});
    const auto kind = static_cast<Kind>(types[i]);
    // llama.cpp finds the mark itself, and among spaces merges other tokens to such a one.
    if (kind == Kind::user_defined && texts[i].find(kSpaceMark) != std::string::npos)
      throw InputError({where, "no U+2581 in user-defined tokens", token_in_quotes(texts[i]), kOtherTokenizer});
    model.pieces.push_back({texts[i], static_cast<float>(scores[i]), kind});
  }
  if (flag("add_bos_token", true)) {  // 1 is llama.cpp's own default
    const std::int64_t begin = file.has_key(key + "bos_token_id") ? file.integer(key + "bos_token_id") : 1;
    const bool known = begin >= 0 && begin < static_cast<std::int64_t>(texts.size());
    if (!known || model.pieces[static_cast<std::size_t>(begin)].kind == Kind::unused)
      throw InputError({file.path() + ": " + key + "bos_token_id", "an id of the vocabulary", std::to_string(begin), ""});
    model.begin = static_cast<std::int32_t>(begin);
  }
  check_unused(model, where);
  return elastiform::sentencepiece::tokenizer_json(model, where);
}

}  // namespace elastiform::gguf::sentencepiece
