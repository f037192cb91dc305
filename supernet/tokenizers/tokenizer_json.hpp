#pragma once

// For the sources that read a tokenizer.json only.
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "supernet/formats/json.hpp"
#include "supernet/tokenizers/tokenizer_state.hpp"

namespace elastiform {

/// Whether a token holds U+2581 behind another character.
bool goes_on_behind_a_word(const std::string& token);

/// One file on its way into a State.
class TokenizerJson {
  using Json = nlohmann::json;

 public:
  TokenizerJson(std::string_view text, const std::string& where);
  Tokenizer take();

 private:
  [[noreturn]] void fail(const std::string& key, std::string expected, const Json& found) const;
  static bool has(const Json& json, const char* key) { return json.contains(key) && !json[key].is_null(); }
  const Json& member(const Json& json, const std::string& place, const char* key) const;
  const Json& object(const char* key) const;
  std::string text(const Json& json, const std::string& place, const char* key) const;
  bool flag(const Json& json, const std::string& place, const char* key, bool otherwise) const;
  std::int32_t id(const Json& value, const std::string& place) const;
  void name(std::int32_t at, std::string bytes, const std::string& place);
  /// The steps of a Sequence, else the value itself as the only step.
  std::vector<const Json*> steps_of(const char* key, const char* list) const;

  void read_model(const Json& model);
  void read_bpe_options(const Json& model) const;
  void read_vocabulary(const Json& model);
  void read_merges(const Json& model);
  void check_unknown_bytes(const Json& model) const;
  void read_added();
  void read_pre_tokenizer();
  void add_step(const Json& step);
  void read_decoder();
  void read_prefix();

  bool is_of_characters() const;
  void read_normalizer();
  void add_normalizer(const Json& step);
  void read_character_decoder();
  void add_decoder(const Json& step, bool& fused);
  std::string decoded(std::string token) const;
  void read_character_model(const Json& model);
  void read_unigram(const Json& model);
  void read_unknown(const Json& model);
  void read_byte_ids(const Json& model);
  void read_metaspace();
  std::string short_text(const Json& json, const std::string& place, const char* key) const;

  std::string where_;
  Json json_;
  std::shared_ptr<Tokenizer::State> state_ = std::make_shared<Tokenizer::State>();
  std::unordered_map<std::string, std::int32_t> ids_;  // of the model's vocabulary, by its characters
  std::set<std::int32_t> taken_;
  std::size_t ids_limit_ = 0;
  std::vector<PreTokenizer::Step> steps_;

  // Of characters (tokenizer_json_characters.cpp).
  std::vector<std::pair<std::string, std::string>> decoded_;  // what becomes what
  bool decodes_bytes_ = false;
  bool crosses_words_ = false;  // a token goes on behind the end of a word
};

}  // namespace elastiform
