// tokenizer.json of Hugging Face's tokenizers library: what all of them have, and byte-level BPE.
#include "supernet/tokenizers/tokenizer_json.hpp"

#include <algorithm>

#include "kernels/errors.hpp"
#include "supernet/sha256.hpp"
#include "supernet/tokenizers/byte_characters.hpp"
#include "supernet/tokenizers/utf8.hpp"

namespace elastiform {

namespace {

using Json = nlohmann::json;
using Step = PreTokenizer::Step;

constexpr int kDepth = 16, kMaxId = 1 << 24;
constexpr std::size_t kMaxSteps = 16;

std::string shown(const Json& value) {
  if (value.is_structured()) return std::string("a JSON ") + value.type_name();
  return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 64);
}

}  // namespace

TokenizerJson::TokenizerJson(std::string_view text, const std::string& where)
    : where_(where), json_(parse_untrusted_json(text, where, kDepth)) {
  if (!json_.is_object()) fail("", "an object", json_);
  state_->json = std::string(text);
  state_->sha256 = sha256_hex(text);
}

Tokenizer TokenizerJson::take() {
  const bool characters = is_of_characters(json_);
  if (characters) {
    state_->characters.emplace();
    read_normalizer();
    read_character_decoder();
    read_character_model(object("model"));
  } else {
    if (has(json_, "normalizer")) fail("normalizer", "null before byte-level BPE", member(json_["normalizer"], "normalizer", "type"));
    read_model(object("model"));
  }
  read_added();
  if (characters) {
    read_metaspace();
  } else {
    read_pre_tokenizer();
    read_decoder();
  }
  read_prefix();
  return Tokenizer(std::move(state_));
}

void TokenizerJson::fail(const std::string& key, std::string expected, const Json& found) const {
  throw InputError({where_ + (key.empty() ? "" : ": " + key), std::move(expected), shown(found), kOtherTokenizer});
}

const Json& TokenizerJson::member(const Json& json, const std::string& place, const char* key) const {
  if (!json.is_object()) fail(place, "an object", json);
  const auto found = json.find(key);
  if (found == json.end()) throw InputError({where_ + ": " + place, std::string("key ") + key, "none", kOtherTokenizer});
  return *found;
}

const Json& TokenizerJson::object(const char* key) const {
  const Json& value = member(json_, key, key);
  if (!value.is_object()) fail(key, "an object", value);
  return value;
}

std::string TokenizerJson::text(const Json& json, const std::string& place, const char* key) const {
  const Json& value = member(json, place, key);
  if (!value.is_string()) fail(place + "." + key, "text", value);
  return value.get<std::string>();
}

bool TokenizerJson::flag(const Json& json, const std::string& place, const char* key, bool otherwise) const {
  if (!has(json, key)) return otherwise;
  if (!json[key].is_boolean()) fail(place + "." + key, "true or false", json[key]);
  return json[key].get<bool>();
}

std::int32_t TokenizerJson::id(const Json& value, const std::string& place) const {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= kMaxId)
    fail(place, "an id from 0 to " + std::to_string(kMaxId - 1), value);
  return value.get<std::int32_t>();
}

/// Gives the id its text; ids may have gaps, but not so that a small file asks for much memory.
void TokenizerJson::name(std::int32_t at, std::string bytes, const std::string& place) {
  if (static_cast<std::size_t>(at) >= ids_limit_)
    throw InputError({where_ + ": " + place, "ids below " + std::to_string(ids_limit_) + ", for as many tokens as it has",
                      std::to_string(at), kOtherTokenizer});
  if (state_->texts.size() <= static_cast<std::size_t>(at)) state_->texts.resize(static_cast<std::size_t>(at) + 1);
  state_->texts[static_cast<std::size_t>(at)] = std::move(bytes);
}

std::vector<const Json*> TokenizerJson::steps_of(const char* key, const char* list) const {
  const Json& top = object(key);
  if (text(top, key, "type") != "Sequence") return {&top};
  const Json& steps = member(top, key, list);
  if (!steps.is_array() || steps.size() > kMaxSteps)
    fail(std::string(key) + "." + list, "a list of at most " + std::to_string(kMaxSteps), steps);
  std::vector<const Json*> found;
  for (const Json& step : steps) found.push_back(&step);
  return found;
}

void TokenizerJson::read_bpe_options(const Json& model) const {
  // Files from before the key existed hold BPE when they have merges.
  if (has(model, "type") ? text(model, "model", "type") != "BPE" : !model.contains("merges"))
    fail("model.type", state_->characters ? "BPE or Unigram" : "BPE", has(model, "type") ? model["type"] : Json());
  if (has(model, "dropout") && model["dropout"] != 0) fail("model.dropout", "null", model["dropout"]);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (has(model, key) && model[key] != "") fail(std::string("model.") + key, "null", model[key]);
}

void TokenizerJson::read_model(const Json& model) {
  read_bpe_options(model);
  read_vocabulary(model);
  read_merges(model);
  check_unknown_bytes(model);
  if (!flag(model, "model", "ignore_merges", false)) return;
  for (const auto& [token, at] : ids_) {
    // A token with a character that stands for no byte meets no piece, whose characters all do.
    const std::string bytes = bytes_of_characters(token);
    std::string characters;
    for (const char byte : bytes) characters += byte_character(static_cast<unsigned char>(byte));
    if (characters == token) state_->merges.whole.emplace(bytes, at);
  }
}

void TokenizerJson::read_vocabulary(const Json& model) {
  const Json& vocabulary = member(model, "model", "vocab");
  if (!vocabulary.is_object() || vocabulary.empty()) fail("model.vocab", "an object of tokens and ids", vocabulary);
  ids_limit_ = 2 * (vocabulary.size() + (json_.contains("added_tokens") ? json_["added_tokens"].size() : 0)) + 256;
  for (const auto& [token, value] : vocabulary.items()) {
    const std::int32_t at = id(value, "model.vocab");
    if (!taken_.insert(at).second) fail("model.vocab", "every id once", value);
    ids_.emplace(token, at);
    if (state_->characters) name_decoded(at, token, "model.vocab");
    else name(at, bytes_of_characters(token), "model.vocab");
  }
  if (state_->characters) return;
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids_.find(byte_character(byte));
    state_->merges.byte_tokens[static_cast<std::size_t>(byte)] = found == ids_.end() ? BytePairEncoding::kNone : found->second;
  }
}

void TokenizerJson::read_merges(const Json& model) {
  const Json& merges = member(model, "model", "merges");
  if (!merges.is_array()) fail("model.merges", "a list", merges);
  for (const Json& merge : merges) {
    std::string left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
    } else {  // tokenizers before 0.20 wrote "a b"
      if (!merge.is_string()) fail("model.merges", "pairs of tokens", merge);
      const std::string pair = merge.get<std::string>();
      const auto blank = pair.find(' ');
      if (blank == std::string::npos || pair.find(' ', blank + 1) != std::string::npos) fail("model.merges", "two tokens", merge);
      left = pair.substr(0, blank), right = pair.substr(blank + 1);
    }
    const auto a = ids_.find(left), b = ids_.find(right), both = ids_.find(left + right);
    if (a == ids_.end() || b == ids_.end() || both == ids_.end())
      throw InputError({where_ + ": model.merges", "tokens of the vocabulary", token_in_quotes(left) + " and " + token_in_quotes(right),
                        kOtherTokenizer});
    BytePairEncoding& list = state_->characters ? state_->characters->model.merges : state_->merges;
    list.add_merge(a->second, b->second, both->second);
    crosses_words_ = crosses_words_ || goes_on_behind_a_word(both->first);
  }
}

/// Bytes that have no token are left out; anything else that a file may want done with them is not done here.
void TokenizerJson::check_unknown_bytes(const Json& model) const {
  const auto& tokens = state_->merges.byte_tokens;
  if (std::find(tokens.begin(), tokens.end(), BytePairEncoding::kNone) == tokens.end()) return;
  if (has(model, "unk_token")) fail("model.unk_token", "null where bytes have no token", model["unk_token"]);
  if (flag(model, "model", "byte_fallback", false)) fail("model.byte_fallback", "false", model["byte_fallback"]);
}

void TokenizerJson::read_added() {
  if (!has(json_, "added_tokens")) return;
  if (!json_["added_tokens"].is_array()) fail("added_tokens", "a list", json_["added_tokens"]);
  for (const Json& token : json_["added_tokens"]) {
    const std::string content = text(token, "added_tokens", "content");
    const std::int32_t at = id(member(token, "added_tokens", "id"), "added_tokens.id");
    if (content.empty()) fail("added_tokens.content", "text", token["content"]);
    for (const char* key : {"single_word", "lstrip", "rstrip"})
      if (flag(token, "added_tokens", key, false)) fail(std::string("added_tokens.") + key, "false", token["content"]);
    const auto known = ids_.find(content);
    if (known != ids_.end() ? known->second != at : !taken_.insert(at).second) fail("added_tokens", "an id of its own", token["content"]);
    state_->added.insert(at);
    const bool special = flag(token, "added_tokens", "special", false), normalized = flag(token, "added_tokens", "normalized", !special);
    // Such a token is met, and named, as the normalizer leaves it.
    const std::string met = normalized && state_->characters ? state_->characters->normalizer.apply(content) : content;
    if (met.size() > kLongestToken) fail("added_tokens.content", "at most " + std::to_string(kLongestToken) + " bytes", Json(met.size()));
    if (met.empty()) fail("added_tokens.content", "text that the normalizer keeps", token["content"]);
    if (state_->characters) name_decoded(at, met, "added_tokens");
    else name(at, met, "added_tokens");
    (normalized ? state_->second : state_->first).add(met, at);
  }
  state_->first.finish();
  state_->second.finish();
}

void TokenizerJson::add_step(const Json& step) {
  const std::string place = "pre_tokenizer", type = text(step, place, "type");
  if (type == "ByteLevel") {
    steps_.push_back({.kind = Step::Kind::byte_level,
                      .pattern = "",
                      .prefix_space = flag(step, place, "add_prefix_space", true),
                      .gpt2 = flag(step, place, "use_regex", true)});
  } else if (type == "Digits") {
    steps_.push_back({.kind = Step::Kind::digits, .pattern = "", .individual = flag(step, place, "individual_digits", false)});
  } else if (type == "Split") {
    if (text(step, place, "behavior") != "Isolated") fail(place + ".behavior", "Isolated", step["behavior"]);
    if (flag(step, place, "invert", false)) fail(place + ".invert", "false", step["invert"]);
    steps_.push_back({.kind = Step::Kind::split, .pattern = text(member(step, place, "pattern"), place + ".pattern", "Regex")});
  } else {
    fail(place + ".type", "Metaspace alone, or ByteLevel, Digits or Split", step["type"]);
  }
}

void TokenizerJson::read_pre_tokenizer() {
  for (const Json* step : steps_of("pre_tokenizer", "pretokenizers")) add_step(*step);
  // Bytes become characters there, and merges are of such characters.
  if (steps_.empty() || steps_.back().kind != Step::Kind::byte_level)
    throw InputError({where_ + ": pre_tokenizer", "ByteLevel as its last step", "none",
                      "a tokenizer of characters has Metaspace or a normalizer instead"});
  for (std::size_t i = 0; i + 1 < steps_.size(); ++i)
    if (steps_[i].kind == Step::Kind::byte_level)
      throw InputError({where_ + ": pre_tokenizer", "ByteLevel once", "twice", kOtherTokenizer});
  state_->pieces.emplace(std::move(steps_), where_ + ": pre_tokenizer");
}

void TokenizerJson::read_decoder() {
  if (!has(json_, "decoder")) return;
  const Json& decoder = object("decoder");
  if (text(decoder, "decoder", "type") != "ByteLevel") fail("decoder.type", "ByteLevel", decoder["type"]);
}

/// Of a template only what it puts before a single text matters to a model that continues it.
void TokenizerJson::read_prefix() {
  if (!has(json_, "post_processor")) return;
  for (const Json* one : steps_of("post_processor", "processors")) {
    const std::string type = text(*one, "post_processor", "type");
    if (type == "ByteLevel") continue;  // moves offsets, which are not asked for here
    if (type != "TemplateProcessing") fail("post_processor.type", "ByteLevel or TemplateProcessing", (*one)["type"]);
    const Json& single = member(*one, "post_processor", "single");
    if (!single.is_array()) fail("post_processor.single", "a list", single);
    for (const Json& part : single) {
      if (!part.is_object() || !part.contains("SpecialToken")) break;
      const std::string token = text(part["SpecialToken"], "post_processor.single", "id");
      const Json& known = member(member(*one, "post_processor", "special_tokens"), "post_processor.special_tokens", token.c_str());
      const Json& list = member(known, "post_processor.special_tokens", "ids");
      if (!list.is_array()) fail("post_processor.special_tokens.ids", "a list", list);
      for (const Json& value : list) {
        const std::int32_t at = id(value, "post_processor.special_tokens.ids");
        if (static_cast<std::size_t>(at) >= state_->texts.size()) fail("post_processor.special_tokens.ids", "ids of the vocabulary", value);
        state_->prefix.push_back(at);
      }
    }
  }
}

}  // namespace elastiform
