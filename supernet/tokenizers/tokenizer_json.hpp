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

/// Whether a tokenizer.json is of characters, not byte-level: byte-level files say so in their pre-tokenizer; these have Metaspace, or none
/// and a normalizer that does its work.
bool is_of_characters(const nlohmann::json& file);

/// The post_processor of a tokenizer.json that puts one token before a text.
nlohmann::json beginning_template(const std::string& text, std::int64_t id);

/// Bytes of a token that is looked for at each place of a text.
inline constexpr std::size_t kLongestToken = 512;

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

  void read_normalizer();
  void add_normalizer(const Json& step);
  void grow(double& growth, const std::string& place, std::size_t from, std::size_t to) const;
  void read_character_decoder();
  void add_decoder(const Json& step, bool& fused);
  std::string decoded(std::string token, bool first) const;
  void name_decoded(std::int32_t at, const std::string& token, const std::string& place);
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
  struct Decoded {
    std::string pattern, content, first_content;  // what becomes what, and in the first token of a text
  };
  std::vector<Decoded> decoded_;
  double normalizer_growth_ = 1, decoder_growth_ = 1;
  std::size_t prepended_ = 0;  // bytes
  bool decodes_bytes_ = false;
  bool crosses_words_ = false;  // a token goes on behind the end of a word
};

}  // namespace elastiform
