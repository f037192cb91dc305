#include "supernet/formats/gguf_vocabulary.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <stdexcept>

#include "kernels/errors.hpp"
#include "supernet/formats/gguf.hpp"
#include "supernet/formats/gguf_sentencepiece.hpp"
#include "supernet/formats/hugging_face_tokenizer.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/tokenizers/byte_characters.hpp"
#include "supernet/tokenizers/tokenizer_json.hpp"
#include "supernet/tokenizers/utf8.hpp"

namespace elastiform::gguf {
namespace {

using Json = nlohmann::json;

constexpr int kJsonDepth = 16, kBytes = 256;
enum TokenType : std::int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5 };  // llama_token_type

Json byte_level(bool gpt2) { return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", gpt2}}; }

/// How llama.cpp calls a way to cut text into pieces, and the steps of a tokenizer.json that cut it the same way.
struct PreTokenizerName {
  const char* name;
  Json steps;
  bool ignore_merges = false;  // a piece that is a token is that token: llama.cpp ties it to the name
  bool begins = false;         // whether it puts its first token before a text where a file does not say
};

const std::array<PreTokenizerName, 3>& known_pre_tokenizers() {
  // Llama 3's own pattern, from its tokenizer.json.
  constexpr const char* kLlama3 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  static const std::array<PreTokenizerName, 3> known{
      {{"gpt-2", Json::array({byte_level(true)})},
       {"smollm", Json::array({{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)})},
       {"llama-bpe",
        Json::array(
            {{{"type", "Split"}, {"pattern", {{"Regex", kLlama3}}}, {"behavior", "Isolated"}, {"invert", false}}, byte_level(false)}),
        true, true}}};
  return known;
}

/// The steps of a tokenizer.json, without what does not change ids.
Json steps_of(const Json& tokenizer) {
  const Json& top = tokenizer.at("pre_tokenizer");
  Json steps = top.value("type", "") == "Sequence" ? top.at("pretokenizers") : Json::array({top});
  for (Json& step : steps) {
    if (step.value("type", "") != "ByteLevel") continue;
    step["trim_offsets"] = true;
    step["use_regex"] = step.value("use_regex", true);
    step["add_prefix_space"] = step.value("add_prefix_space", true);
  }
  return steps;
}

const PreTokenizerName* pre_tokenizer_of(const Json& tokenizer) {
  const Json steps = steps_of(tokenizer);
  const Json& model = tokenizer.at("model");
  const bool ignores = model.contains("ignore_merges") && model["ignore_merges"] == true;
  for (const PreTokenizerName& known : known_pre_tokenizers())
    if (known.steps == steps && known.ignore_merges == ignores) return &known;
  return nullptr;
}

Json parsed(const std::string& tokenizer) { return parse_untrusted_json(tokenizer, "tokenizer.json", kJsonDepth); }

/// Id and type of every text that stands for an id.
struct Token {
  std::string text;
  std::int32_t type = kUnused;
};

/// llama.cpp ends itself when two tokens have one text.
void name_unused(std::vector<Token>& tokens) {
  std::set<std::string> taken;
  for (const Token& token : tokens) taken.insert(token.text);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].type != kUnused) continue;
    std::string text = "[PAD" + std::to_string(i) + "]";
    while (taken.count(text) != 0) text += "_";
    taken.insert(text);
    tokens[i].text = text;
  }
}

std::vector<Token> tokens_of(const Json& tokenizer, int rows) {
  std::vector<Token> tokens(static_cast<std::size_t>(rows));
  const bool characters = is_of_characters(tokenizer);
  const auto put = [&](std::int64_t id, const std::string& text, std::int32_t type) {
    if (id < 0 || id >= rows) throw InputError({"tokenizer.json", "ids below " + std::to_string(rows), std::to_string(id), ""});
    tokens[static_cast<std::size_t>(id)] = {text, type};
  };
  const Json& model = tokenizer.at("model");
  for (const auto& [text, id] : model.at("vocab").items())
    put(id.get<std::int64_t>(), text, characters ? sentencepiece::type_of(text) : std::int32_t{kNormal});
  const Json added = tokenizer.contains("added_tokens") ? tokenizer["added_tokens"] : Json::array();
  for (const Json& one : added)
    put(one.at("id").get<std::int64_t>(), one.at("content").get<std::string>(),
        one.contains("special") && one["special"] == true ? kControl : kUserDefined);
  if (characters && model.contains("unk_token") && model["unk_token"].is_string()) {
    Token& unknown = tokens[model["vocab"].at(model["unk_token"].get<std::string>()).get<std::size_t>()];
    if (unknown.type == kControl) unknown.type = kUnknown;
  }
  name_unused(tokens);
  return tokens;
}

std::vector<std::string> merges_of(const Json& tokenizer) {
  std::vector<std::string> merges;
  for (const Json& merge : tokenizer.at("model").at("merges"))
    merges.push_back(merge.is_string() ? merge.get<std::string>() : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  return merges;
}

/// The id that a template puts before a text; -1 when none, -2 when several.
std::int64_t beginning_of(const Json& tokenizer) {
  std::vector<std::int64_t> ids;
  const Json processor = tokenizer.contains("post_processor") ? tokenizer["post_processor"] : Json();
  if (!processor.is_object()) return -1;
  const Json all = processor.value("type", "") == "Sequence" ? processor.at("processors") : Json::array({processor});
  for (const Json& one : all) {
    if (one.value("type", "") != "TemplateProcessing") continue;
    for (const Json& part : one.at("single")) {
      if (!part.contains("SpecialToken")) break;
      for (const Json& id : one.at("special_tokens").at(part.at("SpecialToken").at("id").get<std::string>()).at("ids"))
        ids.push_back(id.get<std::int64_t>());
    }
  }
  return ids.empty() ? -1 : ids.size() == 1 ? ids.front() : -2;
}

void add(Metadata& metadata, const char* model, const char* pre, const std::vector<Token>& tokens, std::int64_t begin, int end) {
  std::vector<std::string> texts;
  std::vector<std::int32_t> types;
  for (const Token& token : tokens) texts.push_back(token.text), types.push_back(token.type);
  metadata.emplace_back("tokenizer.ggml.model", std::string(model));
  metadata.emplace_back("tokenizer.ggml.pre", std::string(pre));
  metadata.emplace_back("tokenizer.ggml.tokens", std::move(texts));
  metadata.emplace_back("tokenizer.ggml.token_type", std::move(types));
  metadata.emplace_back("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(begin >= 0 ? begin : end));
  metadata.emplace_back("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(end));
  metadata.emplace_back("tokenizer.ggml.add_bos_token", begin >= 0);
}

void add_sentencepiece(Metadata& metadata, const Json& tokenizer, int rows) {
  metadata.emplace_back("tokenizer.ggml.scores", sentencepiece::scores_of(tokenizer, rows));
  metadata.emplace_back("tokenizer.ggml.add_space_prefix", sentencepiece::has_prefix_space(tokenizer));
  metadata.emplace_back("tokenizer.ggml.add_eos_token", false);
  const Json& model = tokenizer.at("model");
  if (model.contains("unk_token") && model["unk_token"].is_string())
    metadata.emplace_back("tokenizer.ggml.unknown_token_id",
                          model.at("vocab").at(model["unk_token"].get<std::string>()).get<std::uint32_t>());
}

/// A file's tokens as a tokenizer.json holds them: vocabulary and added tokens.
void add_tokens(Json& json, const Reader& file) {
  const std::vector<std::string> texts = file.texts("tokenizer.ggml.tokens");
  const std::vector<std::int64_t> types = file.has_key("tokenizer.ggml.token_type")
                                              ? file.integers("tokenizer.ggml.token_type", texts.size())
                                              : std::vector<std::int64_t>(texts.size(), kNormal);
  std::set<std::string> seen;
  Json &vocabulary = json["model"]["vocab"], &added = json["added_tokens"];
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (types[i] == kUnused) continue;
    if (types[i] < kNormal || types[i] > kUserDefined)
      throw InputError({file.path() + ": tokenizer.ggml.token_type", "types from 1 to 5", std::to_string(types[i]), ""});
    if (!seen.insert(texts[i]).second)
      throw InputError({file.path() + ": tokenizer.ggml.tokens", "every token once", token_in_quotes(texts[i]) + " twice", ""});
    if (types[i] == kNormal) {
      vocabulary[texts[i]] = i;
      continue;
    }
    added.push_back({{"id", i},
                     {"content", texts[i]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", types[i] != kUserDefined}});
  }
}

/// What add_bos_token says, as the template that puts that token first; `begins` where it says nothing.
Json template_of(const Reader& file, bool begins) {
  if (file.has_key("tokenizer.ggml.add_bos_token")) begins = file.flag("tokenizer.ggml.add_bos_token");
  if (!begins) return nullptr;
  const std::vector<std::string> texts = file.texts("tokenizer.ggml.tokens");
  const std::int64_t id = file.integer("tokenizer.ggml.bos_token_id");
  if (id < 0 || id >= static_cast<std::int64_t>(texts.size()))
    throw InputError({file.path() + ": tokenizer.ggml.bos_token_id", "an id of the vocabulary", std::to_string(id), ""});
  return elastiform::beginning_template(texts[static_cast<std::size_t>(id)], id);
}

/// 256 bytes in order, and behind them only ids that stand for nothing.
bool is_one_id_a_byte(const Reader& file) {
  if (file.array_length("tokenizer.ggml.tokens") < kBytes || file.array_length("tokenizer.ggml.merges") != 0) return false;
  const std::vector<std::string> texts = file.texts("tokenizer.ggml.tokens");
  for (int byte = 0; byte < kBytes; ++byte)
    if (texts[static_cast<std::size_t>(byte)] != byte_character(byte)) return false;
  if (texts.size() == kBytes) return true;
  if (!file.has_key("tokenizer.ggml.token_type")) return false;
  const std::vector<std::int64_t> types = file.integers("tokenizer.ggml.token_type", texts.size());
  return std::all_of(types.begin() + kBytes, types.end(), [](std::int64_t type) { return type == kUnused; });
}

/// A vocabulary that has no tokenizer.json here. Of 256 ids it would be taken for one id a byte.
std::string unknown(const Reader& file) {
  if (file.has_key("tokenizer.ggml.tokens") && file.array_length("tokenizer.ggml.tokens") == kBytes)
    throw InputError({file.path() + ": tokenizer.ggml", "of 256 ids one a byte", "another vocabulary", ""});
  return "";
}

}  // namespace

std::string why_not_tokenizer(const std::string& tokenizer, int rows, std::optional<int> end_token) {
  const Json json = parsed(tokenizer);
  if (is_of_characters(json)) {
    if (std::string why = sentencepiece::why_not(json); !why.empty()) return why;
  } else if (pre_tokenizer_of(json) == nullptr) {
    return "its tokenizer cuts text into pieces in a way that llama.cpp has no name for; known: gpt-2, smollm, llama-bpe";
  }
  if (beginning_of(json) == -2) return "its tokenizer puts several tokens before a text, and llama.cpp puts one";
  if (!hugging_face::stopping_id(tokenizer, end_token, rows))
    return "llama.cpp must have an end token, nothing says which it is, and every id stands for a text; name it as eos_token_id in a "
           "generation_config.json beside the tokenizer.json";
  return "";
}

std::string note_on_tokenizer(const std::string& tokenizer) {
  const Json json = parsed(tokenizer);
  return is_of_characters(json) ? sentencepiece::note_on(json) : "";
}

void add_vocabulary(Metadata& metadata, const std::string& tokenizer, std::optional<int> end_token, int rows) {
  // llama.cpp must have an end token and takes id 11 unless told; a NUL byte ends a text of bytes better than a vertical tab.
  if (tokenizer.empty()) {
    std::vector<Token> tokens(static_cast<std::size_t>(rows));
    for (int byte = 0; byte < std::min(kBytes, rows); ++byte) tokens[static_cast<std::size_t>(byte)] = {byte_character(byte), kNormal};
    name_unused(tokens);
    add(metadata, "gpt2", "gpt-2", tokens, -1, *hugging_face::stopping_id(tokenizer, end_token, rows));
    metadata.emplace_back("tokenizer.ggml.merges", std::vector<std::string>());
    return;
  }
  const Json json = parsed(tokenizer);
  if (const std::string why = why_not_tokenizer(tokenizer, rows, end_token); !why.empty())
    throw InputError({"export", "a tokenizer for llama.cpp", why, ""});
  const bool characters = is_of_characters(json);
  add(metadata, characters ? sentencepiece::kModelName : "gpt2", characters ? "default" : pre_tokenizer_of(json)->name,
      tokens_of(json, rows), beginning_of(json), *hugging_face::stopping_id(tokenizer, end_token, rows));
  if (characters) add_sentencepiece(metadata, json, rows);
  else metadata.emplace_back("tokenizer.ggml.merges", merges_of(json));
}

std::optional<int> end_token_of(const Reader& file) {
  if (!file.has_key("tokenizer.ggml.eos_token_id") || !file.has_key("tokenizer.ggml.tokens")) return std::nullopt;
  const std::int64_t id = file.integer("tokenizer.ggml.eos_token_id");
  const std::uint64_t count = file.array_length("tokenizer.ggml.tokens");
  if (id < 0 || static_cast<std::uint64_t>(id) >= count) return std::nullopt;
  const bool bytes = file.text("tokenizer.ggml.model") == "gpt2" && file.has_key("tokenizer.ggml.merges") && is_one_id_a_byte(file);
  if (bytes && id == 0) return std::nullopt;
  const bool typed = file.has_key("tokenizer.ggml.token_type");
  if (typed && file.integers("tokenizer.ggml.token_type", count)[static_cast<std::size_t>(id)] == kUnused) return std::nullopt;
  return static_cast<int>(id);
}

std::string tokenizer_of(const Reader& file, std::optional<InputError>& refused) {
  if (!file.has_key("tokenizer.ggml.model") || file.text("tokenizer.ggml.model") == "none") return "";
  if (file.text("tokenizer.ggml.model") == sentencepiece::kModelName) {
    try {
      return sentencepiece::tokenizer_of(file);
    } catch (const InputError& error) {
      refused = error;
      return "";
    }
  }
  if (file.text("tokenizer.ggml.model") != "gpt2") return unknown(file);
  if (is_one_id_a_byte(file)) return "";
  const std::string pre = file.has_key("tokenizer.ggml.pre") ? file.text("tokenizer.ggml.pre") : "";
  const auto& known = known_pre_tokenizers();
  const auto found = std::find_if(known.begin(), known.end(), [&](const PreTokenizerName& one) { return one.name == pre; });
  if (found == known.end()) return unknown(file);
  Json json{{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", Json::array()}, {"normalizer", nullptr}};
  json["pre_tokenizer"] = found->steps.size() == 1 ? found->steps.front() : Json{{"type", "Sequence"}, {"pretokenizers", found->steps}};
  json["post_processor"] = template_of(file, found->begins);
  json["decoder"] = byte_level(true);
  json["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", found->ignore_merges},
                   {"vocab", Json::object()},
                   {"merges", file.texts("tokenizer.ggml.merges")}};
  add_tokens(json, file);
  try {
    return json.dump(1) + "\n";
  } catch (const Json::type_error&) {  // a token that is no UTF-8
    throw InputError({file.path() + ": tokenizer.ggml.tokens", "UTF-8", "something else", ""});
  }
}

}  // namespace elastiform::gguf
