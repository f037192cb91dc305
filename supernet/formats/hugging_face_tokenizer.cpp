#include "supernet/formats/hugging_face_tokenizer.hpp"

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

std::string tokenizer_config(int context, const std::optional<EndToken>& end) {
  const nlohmann::ordered_json json{{"tokenizer_class", "PreTrainedTokenizerFast"},
                                    {"clean_up_tokenization_spaces", false},
                                    {"model_max_length", context},
                                    {"bos_token", nullptr},
                                    {"eos_token", end ? nlohmann::ordered_json(end->text) : nlohmann::ordered_json()},
                                    {"unk_token", nullptr},
                                    {"pad_token", nullptr}};
  return json.dump(2) + "\n";
}

}  // namespace

void put_tokenizer(const std::string& folder, const std::string& tokenizer, const ModelConfig& model) {
  constexpr int kByteVocabulary = 256;
  if (tokenizer.empty() && model.vocabulary != kByteVocabulary) return;
  write_durably(folder + "/tokenizer.json", tokenizer.empty() ? byte_tokenizer() : tokenizer);
  write_durably(folder + "/tokenizer_config.json", tokenizer_config(model.context, end_token(tokenizer)));
}

std::optional<EndToken> end_token(const std::string& tokenizer) {
  if (tokenizer.empty()) return std::nullopt;
  const nlohmann::json json = parse_untrusted_json(tokenizer, "tokenizer.json", 16),
                       added = json.value("added_tokens", nlohmann::json::array());
  for (const char* name : {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>"})
    for (const nlohmann::json& token : added)
      if (token.value("special", false) && token.value("content", "") == name) return EndToken{token.at("id").get<int>(), name};
  return std::nullopt;
}

}  // namespace elastiform::hugging_face
