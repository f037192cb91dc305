#include "supernet/tokenizers/pre_tokenizer.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "supernet/tokenizers/oniguruma.hpp"
#include "supernet/tokenizers/utf8.hpp"

namespace elastiform {
namespace {

using Piece = std::function<void(std::string_view)>;

// encoder.py of GPT-2.
constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Oniguruma 6.9.8 knows Unicode 14. This step asks the tokenizers library's own tables instead, which know the numbers of Unicode 17 too.
constexpr const char* kDigit =
    R"([\p{N}\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9}\x{11DE0}-\x{11DE9}\x{11F50}-\x{11F59}\x{16130}-\x{16139})"
    R"(\x{16D70}-\x{16D79}\x{16FF4}-\x{16FF6}\x{1CCF0}-\x{1CCF9}\x{1D2C0}-\x{1D2D3}\x{1E4F0}-\x{1E4F9}\x{1E5F1}-\x{1E5FA}])";

/// Runs of whole characters, and runs of bytes that are none, in turn.
void runs(std::string_view text, const std::function<void(std::string_view, bool valid)>& run) {
  std::size_t begin = 0;
  bool valid = true;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text, at);
    if ((length > 0) != valid) {
      if (at > begin) run(text.substr(begin, at - begin), valid);
      begin = at;
      valid = length > 0;
    }
    at += std::max<std::size_t>(length, 1);
  }
  if (begin < text.size()) run(text.substr(begin), valid);
}

/// Matches and what lies between, in order; the tokenizers library finds matches by this rule, empty ones included.
void split(const Pattern& pattern, std::string_view text, const Piece& piece) {
  std::size_t from = 0, done = 0;
  std::optional<std::size_t> last_end;
  Pattern::Match match;
  while (from <= text.size() && pattern.search(text, from, match)) {
    if (match.begin == match.end && last_end == match.end) {  // no empty match right behind another match
      if (from >= text.size()) break;
      from += std::max<std::size_t>(utf8_length(text, from), 1);
      continue;
    }
    from = match.end;
    last_end = match.end;
    if (match.begin > done) piece(text.substr(done, match.begin - done));
    if (match.end > match.begin) piece(text.substr(match.begin, match.end - match.begin));
    done = match.end;
  }
  if (done < text.size()) piece(text.substr(done));
}

}  // namespace

struct PreTokenizer::State {
  std::vector<Step> steps;
  std::vector<std::optional<Pattern>> patterns;  // of each step

  void apply(std::size_t index, std::string_view text, const Piece& piece) const {
    if (index == steps.size()) return piece(text);
    const Step& step = steps[index];
    std::string with_space;
    if (step.kind == Step::Kind::byte_level && step.prefix_space && text.front() != ' ') {
      with_space = " ";
      with_space += text;
      text = with_space;
    }
    if (!patterns[index]) return apply(index + 1, text, piece);
    split(*patterns[index], text, [&](std::string_view part) { apply(index + 1, part, piece); });
  }
};

PreTokenizer::PreTokenizer(std::vector<Step> steps, std::string where) : state_(std::make_unique<State>()) {
  for (const Step& step : steps) {
    std::optional<Pattern> pattern;
    if (step.kind == Step::Kind::split) pattern.emplace(step.pattern, where);
    else if (step.kind == Step::Kind::digits) pattern.emplace(std::string(kDigit) + (step.individual ? "" : "+"), where);
    else if (step.gpt2) pattern.emplace(kGpt2, where);
    state_->patterns.push_back(std::move(pattern));
  }
  state_->steps = std::move(steps);
}

PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;

void PreTokenizer::cut(std::string_view text, const std::function<void(std::string_view)>& piece) const {
  runs(text, [&](std::string_view run, bool valid) {
    if (valid) state_->apply(0, run, piece);
    else piece(run);
  });
}

}  // namespace elastiform
