#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace elastiform {

/// U+2581, which stands for a space in the tokens of sentencepiece.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

// Patterns that are known here without Oniguruma, as a tokenizer.json writes them.
inline constexpr const char *kRuns = " {2,}", *kBothEnds = "\\A +|[ ▁]+\\z";

/// Rewrites a text before it is cut, step after step, as those normalizers of the tokenizers library do that know no tables of Unicode.
class TextNormalizer {
 public:
  struct Step {
    enum class Kind {
      prepend,  // content, before a text that is not empty
      replace,  // every pattern by content, from left to right
      runs,     // two spaces and more by content
      ends,     // spaces at both ends, at the right one U+2581 too, by nothing
      strip     // Unicode's white space by nothing
    };
    Kind kind = Kind::replace;
    std::string pattern, content;
    bool left = false, right = false;  // of strip: which end
  };
  void add(Step step) { steps_.push_back(std::move(step)); }
  /// Whether a text may come to begin with another character than it did, or than U+2581 or a space.
  bool changes_beginning() const;
  std::string apply(std::string_view text) const;

 private:
  std::vector<Step> steps_;
};

/// Every `pattern` by `content`; the pattern is not empty.
std::string replaced(std::string_view text, std::string_view pattern, std::string_view content);

}  // namespace elastiform
