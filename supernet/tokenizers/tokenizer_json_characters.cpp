// tokenizer.json of Hugging Face's tokenizers library: BPE and Unigram of characters, as files made from sentencepiece's have them.
#include <algorithm>
#include <cmath>

#include "kernels/errors.hpp"
#include "supernet/tokenizers/tokenizer_json.hpp"
#include "supernet/tokenizers/utf8.hpp"

namespace elastiform {
namespace {

using Json = nlohmann::json;
using Step = TextNormalizer::Step;

// A hostile file shall not make much of a short text: bytes of one replacement and of all that Prepend puts before a text, and by how much
// all replacements together may lengthen one.
constexpr std::size_t kMaxReplacement = 64, kMaxPrepended = 8;
constexpr double kMaxGrowth = 8;

/// The byte of "<0xNN>", as the tokenizers library writes it; -1 for another text.
int byte_of(const std::string& token) {
  if (token.size() != 6 || token.compare(0, 3, "<0x") != 0 || token.back() != '>') return -1;
  int byte = 0;
  for (const char c : {token[3], token[4]}) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    byte = 16 * byte + digit;
  }
  return byte;
}

/// The step of a Replace with a pattern of Oniguruma's that is done here without it.
std::optional<Step> known_pattern(const std::string& pattern, const std::string& content) {
  if (content.empty()) {
    if (pattern != kBothEnds) return std::nullopt;
    return Step{.kind = Step::Kind::ends, .pattern = "", .content = ""};
  }
  if (pattern == kRuns) return Step{.kind = Step::Kind::runs, .pattern = "", .content = content};
  return std::nullopt;
}

}  // namespace

bool goes_on_behind_a_word(const std::string& token) {
  std::size_t word = 0;
  while (token.compare(word, kSpaceMark.size(), kSpaceMark) == 0) word += kSpaceMark.size();
  return token.find(kSpaceMark, word) != std::string::npos;
}

bool is_of_characters(const Json& file) {
  const auto type_of = [](const Json& json) {
    return json.is_object() && json.contains("type") && json["type"].is_string() ? json["type"].get<std::string>() : std::string();
  };
  if (file.contains("pre_tokenizer") && !file["pre_tokenizer"].is_null()) {
    const Json& top = file["pre_tokenizer"];
    if (type_of(top) != "Sequence" || !top.contains("pretokenizers")) return type_of(top) == "Metaspace";
    const Json& list = top["pretokenizers"];
    return list.is_array() && list.size() == 1 && type_of(list.front()) == "Metaspace";
  }
  const Json model = file.contains("model") ? file["model"] : Json();
  return (file.contains("normalizer") && !file["normalizer"].is_null()) || type_of(model) == "Unigram" ||
         (model.is_object() && model.contains("byte_fallback") && model["byte_fallback"] == true);
}

Json beginning_template(const std::string& text, std::int64_t id) {
  const Json token{{"SpecialToken", {{"id", text}, {"type_id", 0}}}}, first{{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json second{{"Sequence", {{"id", "B"}, {"type_id", 0}}}};
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({token, first})},
          {"pair", Json::array({token, first, second})},
          {"special_tokens", {{text, {{"id", text}, {"ids", Json::array({id})}, {"tokens", Json::array({text})}}}}}};
}

std::string TokenizerJson::short_text(const Json& json, const std::string& place, const char* key) const {
  std::string found = text(json, place, key);
  if (found.size() > kMaxReplacement) fail(place + "." + key, "at most " + std::to_string(kMaxReplacement) + " bytes", json[key]);
  return found;
}

void TokenizerJson::grow(double& growth, const std::string& place, std::size_t from, std::size_t to) const {
  growth *= std::max(1.0, static_cast<double>(to) / static_cast<double>(from));
  if (growth > kMaxGrowth)
    throw InputError({where_ + ": " + place,
                      "replacements that make a text at most " + std::to_string(static_cast<int>(kMaxGrowth)) + " times as long",
                      "longer ones", kOtherTokenizer});
}

void TokenizerJson::add_normalizer(const Json& step) {
  const std::string place = "normalizer", type = text(step, place, "type");
  TextNormalizer& normalizer = state_->characters->normalizer;
  if (type == "Prepend") {
    const std::string content = short_text(step, place, "prepend");
    prepended_ += content.size();
    if (prepended_ > kMaxPrepended) fail(place + ".prepend", "at most " + std::to_string(kMaxPrepended) + " bytes in all", step["prepend"]);
    if (!content.empty()) normalizer.add({.kind = Step::Kind::prepend, .pattern = "", .content = content});
  } else if (type == "Strip") {
    normalizer.add({.kind = Step::Kind::strip,
                    .pattern = "",
                    .content = "",
                    .left = flag(step, place, "strip_left", true),
                    .right = flag(step, place, "strip_right", true)});
  } else if (type == "Replace") {
    const Json& pattern = member(step, place, "pattern");
    const std::string content = short_text(step, place, "content");
    if (pattern.is_object() && pattern.contains("Regex")) {
      const auto known = known_pattern(text(pattern, place + ".pattern", "Regex"), content);
      if (!known) fail(place + ".pattern.Regex", "runs of spaces, or spaces at the end", pattern["Regex"]);
      grow(normalizer_growth_, place, 2, content.size());  // the shortest run; at the ends there is no content
      return normalizer.add(*known);
    }
    const std::string what = text(pattern, place + ".pattern", "String");
    if (what.empty()) fail(place + ".pattern.String", "text", pattern["String"]);
    if (content.empty()) fail(place + ".content", "text", step["content"]);
    grow(normalizer_growth_, place, what.size(), content.size());
    normalizer.add({.kind = Step::Kind::replace, .pattern = what, .content = content});
  } else {
    // Precompiled and the forms of Unicode are tables of a certain version of Unicode, and none is here.
    fail(place + ".type", "Prepend, Replace or Strip, or a Sequence of them", step["type"]);
  }
}

void TokenizerJson::read_normalizer() {
  if (!has(json_, "normalizer")) return;
  for (const Json* step : steps_of("normalizer", "normalizers")) add_normalizer(*step);
}

void TokenizerJson::add_decoder(const Json& step, bool& fused) {
  const std::string place = "decoder", type = text(step, place, "type");
  if (type == "Replace") {
    const std::string what = text(member(step, place, "pattern"), place + ".pattern", "String");
    if (what.empty()) fail(place + ".pattern.String", "text", step["pattern"]);
    const std::string content = short_text(step, place, "content");
    grow(decoder_growth_, place, what.size(), content.size());
    decoded_.push_back({what, content, content});
  } else if (type == "ByteFallback") {
    decodes_bytes_ = true;
  } else if (type == "Fuse") {
    fused = true;
  } else if (type == "Metaspace") {
    if (text(step, place, "replacement") != kSpaceMark) fail(place + ".replacement", "U+2581", step["replacement"]);
    const bool never = has(step, "prepend_scheme") ? step["prepend_scheme"] == "never" : !flag(step, place, "add_prefix_space", true);
    decoded_.push_back({std::string(kSpaceMark), " ", never ? " " : ""});
  } else if (type == "Strip") {
    if (!fused) fail(place + ".type", "Strip behind Fuse", step["type"]);
    if (text(step, place, "content") != " ") fail(place + ".content", "a space", step["content"]);
    const std::int32_t start = id(member(step, place, "start"), place + ".start");
    if (start > 1) fail(place + ".start", "0 or 1", step["start"]);
    if (member(step, place, "stop") != 0) fail(place + ".stop", "0", step["stop"]);
    if (start == 1) state_->leading = Leading::one_space_less;
  } else {
    fail(place + ".type", "Replace, ByteFallback, Fuse, Strip or Metaspace, or a Sequence of them", step["type"]);
  }
}

void TokenizerJson::read_character_decoder() {
  if (!has(json_, "decoder"))
    throw InputError({where_ + ": decoder", "Replace or Metaspace, which make spaces of U+2581", "none", kOtherTokenizer});
  bool fused = false;
  for (const Json* step : steps_of("decoder", "decoders")) add_decoder(*step, fused);
}

std::string TokenizerJson::decoded(std::string token, bool first) const {
  for (const Decoded& one : decoded_) token = replaced(token, one.pattern, first ? one.first_content : one.content);
  const int byte = decodes_bytes_ ? byte_of(token) : -1;
  return byte < 0 ? token : std::string(1, static_cast<char>(byte));
}

void TokenizerJson::name_decoded(std::int32_t at, const std::string& token, const std::string& place) {
  std::string text = decoded(token, false), first = decoded(token, true);
  if (first == text) state_->first_texts.erase(at);
  else state_->first_texts.insert_or_assign(at, std::move(first));
  name(at, std::move(text), place);
}

void TokenizerJson::read_unigram(const Json& model) {
  const Json& vocabulary = member(model, "model", "vocab");
  if (!vocabulary.is_array() || vocabulary.empty()) fail("model.vocab", "a list of pieces and scores", vocabulary);
  ids_limit_ = 2 * (vocabulary.size() + (json_.contains("added_tokens") ? json_["added_tokens"].size() : 0)) + 256;
  const bool bytes_apart = flag(model, "model", "byte_fallback", false);
  Unigram& unigram = state_->characters->model.unigram.emplace();
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    const Json& piece = vocabulary[i];
    if (!piece.is_array() || piece.size() != 2 || !piece[0].is_string() || !piece[1].is_number())
      fail("model.vocab", "pairs of a piece and its score", piece);
    const auto token = piece[0].get<std::string>();
    const double score = piece[1].get<double>();
    if (token.size() > kLongestToken)
      fail("model.vocab", "pieces of at most " + std::to_string(kLongestToken) + " bytes", Json(token.size()));
    if (token.empty() || !std::isfinite(score)) fail("model.vocab", "pieces of text with a finite score", piece[token.empty() ? 0 : 1]);
    const std::int32_t at = id(Json(i), "model.vocab");
    if (!ids_.emplace(token, at).second) fail("model.vocab", "every piece once", piece[0]);
    taken_.insert(at);
    name_decoded(at, token, "model.vocab");
    // sentencepiece meets bytes in no text, and so it is here, other than in the tokenizers library.
    if (!bytes_apart || byte_of(token) < 0) unigram.add(token, score, at);
    crosses_words_ = crosses_words_ || goes_on_behind_a_word(token);
  }
}

/// The token of what has no other, and the tokens of bytes that come before it.
void TokenizerJson::read_unknown(const Json& model) {
  CharacterModel& to = state_->characters->model;
  if (to.unigram) {
    to.unknown = id(member(model, "model", "unk_id"), "model.unk_id");
    if (static_cast<std::size_t>(to.unknown) >= state_->texts.size()) fail("model.unk_id", "an id of the vocabulary", model["unk_id"]);
    to.unknown_text = model["vocab"][static_cast<std::size_t>(to.unknown)][0].get<std::string>();
    to.unigram->finish(to.unknown);
  } else if (has(model, "unk_token")) {
    const auto found = ids_.find(text(model, "model", "unk_token"));
    if (found == ids_.end()) fail("model.unk_token", "a token of the vocabulary", model["unk_token"]);
    to.unknown = found->second;
    to.fuses_unknown = flag(model, "model", "fuse_unk", false);
  }
  if (flag(model, "model", "byte_fallback", false)) read_byte_ids(model);
}

void TokenizerJson::read_byte_ids(const Json& model) {
  auto& bytes = state_->characters->model.byte_ids.emplace();
  int found = 0;
  for (const auto& [token, at] : ids_) {
    const int byte = byte_of(token);
    if (byte < 0) continue;
    bytes[static_cast<std::size_t>(byte)] = at;
    ++found;
  }
  if (found == 256) return;
  throw InputError({where_ + ": model.byte_fallback", "256 tokens from <0x00> to <0xFF>", std::to_string(found) + " of them",
                    model.contains("unk_token") ? "say false, and bytes become the unknown token" : ""});
}

void TokenizerJson::read_character_model(const Json& model) {
  if (has(model, "type") && model["type"] == "Unigram") {
    read_unigram(model);
  } else {
    read_bpe_options(model);
    read_vocabulary(model);
    read_merges(model);
    if (flag(model, "model", "ignore_merges", false)) fail("model.ignore_merges", "false", model["ignore_merges"]);
    for (const auto& [token, at] : ids_)
      if (utf8_length(token, 0) == token.size()) state_->characters->model.add_character(token, at);
  }
  read_unknown(model);
}

/// Metaspace, and where a text may be cut without another token: no token goes on behind a word, and a mark is no unknown character.
void TokenizerJson::read_metaspace() {
  using Cut = CharacterPieces::Cut;
  CharacterPieces& to = *state_->characters;
  if (!crosses_words_ && ids_.count(std::string(kSpaceMark)) != 0) to.cut = Cut::at_words;
  if (!has(json_, "pre_tokenizer")) return;
  const std::string place = "pre_tokenizer";
  const Json& step = *steps_of("pre_tokenizer", "pretokenizers").front();
  if (text(step, place, "replacement") != kSpaceMark) fail(place + ".replacement", "U+2581", step["replacement"]);
  to.metaspace = true;
  to.prefix = flag(step, place, "add_prefix_space", true) ? CharacterPieces::Prefix::always : CharacterPieces::Prefix::never;
  if (has(step, "prepend_scheme")) {
    const std::string scheme = text(step, place, "prepend_scheme");
    if (scheme != "first" && scheme != "always" && scheme != "never")
      fail(place + ".prepend_scheme", "first, always or never", step["prepend_scheme"]);
    to.prefix = scheme == "first"    ? CharacterPieces::Prefix::first
                : scheme == "always" ? CharacterPieces::Prefix::always
                                     : CharacterPieces::Prefix::never;
  }
  // The library asks whether the first character stood first before the normalizer came.
  if (to.prefix == CharacterPieces::Prefix::first && to.normalizer.changes_beginning())
    fail(place + ".prepend_scheme", "always or never behind a normalizer that changes how a text begins", step["prepend_scheme"]);
  if (flag(step, place, "split", true)) to.cut = Cut::at_marks;
}

}  // namespace elastiform
