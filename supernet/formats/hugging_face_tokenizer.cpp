#include "supernet/formats/hugging_face_tokenizer.hpp"

#include <algorithm>
#include <filesystem>
#include <functional>

#include "supernet/formats/json.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/tokenizers/byte_characters.hpp"

namespace elastiform::hugging_face {

std::string byte_tokenizer() {
  nlohmann::ordered_json vocabulary = nlohmann::ordered_json::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[byte_character(byte)] = byte;
  const nlohmann::ordered_json byte_level{
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  nlohmann::ordered_json json;
  json["version"] = "1.0";
  json["truncation"] = nullptr;
  json["padding"] = nullptr;
  json["added_tokens"] = nlohmann::ordered_json::array();
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = byte_level;
  json["post_processor"] = nullptr;
  json["decoder"] = byte_level;
  json["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", false},
                   {"vocab", vocabulary},
                   {"merges", nlohmann::ordered_json::array()}};
  return json.dump(2) + "\n";
}

namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxConfig = 1 << 20;
constexpr int kByteVocabulary = 256;

std::string tokenizer_config(int context, const std::optional<EndToken>& end) {
  const nlohmann::ordered_json json{{"tokenizer_class", "PreTrainedTokenizerFast"},
                                    {"clean_up_tokenization_spaces", false},
                                    {"model_max_length", context},
                                    {"bos_token", nullptr},
                                    {"eos_token", end && !end->text.empty() ? nlohmann::ordered_json(end->text) : nlohmann::ordered_json()},
                                    {"unk_token", nullptr},
                                    {"pad_token", nullptr}};
  return json.dump(2) + "\n";
}

Json parsed(const std::string& tokenizer) { return parse_untrusted_json(tokenizer, "tokenizer.json", 16); }

/// The parts of a tokenizer.json, or what stands for one that is not there.
Json added_tokens(const Json& tokenizer) {
  const auto found = tokenizer.find("added_tokens");
  return found != tokenizer.end() && found->is_array() ? *found : Json::array();
}

/// Calls each(text, id): of BPE an object holds them, of Unigram a list of pieces and scores.
void each_token(const Json& tokenizer, const std::function<void(const std::string&, std::int64_t)>& each) {
  const Json& vocabulary = tokenizer.at("model").at("vocab");
  if (vocabulary.is_object())
    for (const auto& [text, id] : vocabulary.items()) each(text, id.get<std::int64_t>());
  else
    for (std::size_t i = 0; i < vocabulary.size(); ++i) each(vocabulary[i].at(0).get<std::string>(), static_cast<std::int64_t>(i));
}

std::string text_of(const Json& tokenizer, int id) {
  for (const Json& token : added_tokens(tokenizer))
    if (token.at("id") == id) return token.at("content").get<std::string>();
  std::string found;
  each_token(tokenizer, [&](const std::string& text, std::int64_t at) {
    if (at == id) found = text;
  });
  return found;
}

std::int64_t highest_id(const Json& tokenizer) {
  std::int64_t highest = -1;
  for (const Json& token : added_tokens(tokenizer)) highest = std::max(highest, token.at("id").get<std::int64_t>());
  each_token(tokenizer, [&](const std::string&, std::int64_t id) { highest = std::max(highest, id); });
  return highest;
}

}  // namespace

void put_tokenizer(const std::string& folder, const std::string& tokenizer, std::optional<int> known, const ModelConfig& model) {
  if (tokenizer.empty() && model.vocabulary != kByteVocabulary) return;
  write_durably(folder + "/tokenizer.json", tokenizer.empty() ? byte_tokenizer() : tokenizer);
  write_durably(folder + "/tokenizer_config.json", tokenizer_config(model.context, end_token(tokenizer, known)));
}

std::optional<EndToken> end_token(const std::string& tokenizer, std::optional<int> known) {
  if (tokenizer.empty()) return known ? std::optional(EndToken{*known, ""}) : std::nullopt;
  const Json json = parsed(tokenizer);
  if (known) return EndToken{*known, text_of(json, *known)};
  for (const char* name : {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>"})
    for (const Json& token : added_tokens(json))
      if (token.contains("special") && token["special"] == true && token.at("content") == name)
        return EndToken{token.at("id").get<int>(), name};
  return std::nullopt;
}

std::optional<int> stopping_id(const std::string& tokenizer, std::optional<int> known, int rows) {
  if (const auto end = end_token(tokenizer, known)) return end->id;
  if (tokenizer.empty()) return 0;
  const std::int64_t unused = highest_id(parsed(tokenizer)) + 1;
  return unused < rows ? std::optional(static_cast<int>(unused)) : std::nullopt;
}

std::optional<int> end_token_of_folder(const std::string& folder, int rows) {
  for (const char* name : {"/generation_config.json", "/config.json"}) {
    const std::string path = folder + name;
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) continue;
    const Json json = parse_untrusted_json(read_small_file(path, kMaxConfig), path, 16);
    if (!json.is_object() || !json.contains("eos_token_id")) continue;
    const Json& found = json["eos_token_id"];
    const Json& id = found.is_array() && !found.empty() ? found.front() : found;
    if (id.is_number_unsigned() && id.get<std::uint64_t>() < static_cast<std::uint64_t>(rows)) return id.get<int>();
  }
  return std::nullopt;
}

}  // namespace elastiform::hugging_face
