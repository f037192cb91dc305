#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace elastiform {

/// Cuts a text into the pieces inside which merges happen, as the tokenizers library does: each step cuts the pieces of the step before.
/// Patterns are run by Oniguruma, the library that tokenizers uses, so that they mean the same to the last Unicode category.
class PreTokenizer {
 public:
  struct Step {
    enum class Kind { split, digits, byte_level };
    Kind kind = Kind::byte_level;
    std::string pattern;        // split: pieces are what it matches and what lies between
    bool individual = false;    // digits: each digit is a piece of its own
    bool prefix_space = false;  // byte_level: a piece that does not begin with a space gets one
    bool gpt2 = false;          // byte_level: GPT-2's pattern cuts
  };

  /// Throws InputError for a pattern that Oniguruma does not know.
  PreTokenizer(std::vector<Step> steps, std::string where);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;

  /// Calls piece(text) from left to right. Bytes that are no UTF-8 make pieces of their own. Throws InputError when steps need patterns and the
  /// program was built without Oniguruma.
  void cut(std::string_view text, const std::function<void(std::string_view)>& piece) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elastiform
