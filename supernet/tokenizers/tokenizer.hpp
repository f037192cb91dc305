#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace elastiform {

/// What to do about a file that has no place here.
inline constexpr const char* kOtherTokenizer = "--tokenizer, or data.tokenizer, can name another one";

/// Text to token ids and back: one byte an id, or what Hugging Face's tokenizer.json describes, with the ids that its `tokenizers` library
/// gives: byte-level BPE, and BPE and Unigram of characters as sentencepiece has them (docs/imports.md). Cheap to copy.
class Tokenizer {
 public:
  /// 256 ids, id = byte value.
  static Tokenizer bytes();
  /// The text of a tokenizer.json, or the bytes of sentencepiece's tokenizer.model, which are made into one first. InputError names what of
  /// it has no place here: other models, pre-tokenizers and normalizers.
  static Tokenizer parse(std::string_view file, const std::string& where);
  static Tokenizer load(const std::string& path);
  /// "bytes", or a path of either: what data.tokenizer of a recipe says.
  static Tokenizer named(const std::string& name);

  int vocabulary() const;                // highest id + 1
  bool is_bytes() const;                 // made by bytes()
  bool is_of_characters() const;         // neither bytes nor byte-level
  bool is_added(std::int32_t id) const;  // found in a text before it is cut
  const std::string& json() const;       // the tokenizer.json; empty for bytes()
  const std::string& sha256() const;     // of json(); empty for bytes()

  /// No id is added before or behind. Added tokens, such as "<|endoftext|>", are found in the text. InputError when the patterns need
  /// Oniguruma and the program was built without it.
  std::vector<std::int32_t> encode(std::string_view text) const;
  /// Ids that a model of this tokenizer expects before a text, e.g. Llama 3's <|begin_of_text|>.
  const std::vector<std::int32_t>& prefix() const;
  /// The bytes that an id stands for; none for an id that stands for nothing.
  std::string_view text_of(std::int32_t id) const;
  /// The bytes of a whole text: of all ids, without the space that was put before it.
  std::string decode(std::span<const std::int32_t> ids) const;

 private:
  struct State;
  explicit Tokenizer(std::shared_ptr<const State> state);
  friend class TokenizerJson;
  std::shared_ptr<const State> state_;
};

}  // namespace elastiform
