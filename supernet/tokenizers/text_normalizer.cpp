#include "supernet/tokenizers/text_normalizer.hpp"

#include <algorithm>
#include <array>

namespace elastiform {
namespace {

using Step = TextNormalizer::Step;

/// Unicode's White_Space (PropList.txt), unchanged since Unicode 6.3.
constexpr std::array<std::string_view, 25> kWhiteSpace{
    "\t",           "\n",           "\v",           "\f",           "\r",           " ",
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81", "\xE2\x80\x82",
    "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86", "\xE2\x80\x87", "\xE2\x80\x88",
    "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F",
    "\xE3\x80\x80"};

std::string_view stripped(std::string_view text, bool left, bool right) {
  const auto one = [&](const auto& has) { return std::find_if(kWhiteSpace.begin(), kWhiteSpace.end(), has); };
  while (left) {
    const auto space = one([&](std::string_view each) { return text.starts_with(each); });
    if (space == kWhiteSpace.end()) break;
    text.remove_prefix(space->size());
  }
  while (right) {
    const auto space = one([&](std::string_view each) { return text.ends_with(each); });
    if (space == kWhiteSpace.end()) break;
    text.remove_suffix(space->size());
  }
  return text;
}

std::string without_runs(std::string_view text, std::string_view content) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text[at] == ' ' ? std::min(text.find_first_not_of(' ', at), text.size()) : at + 1;
    if (end - at > 1) result += content;
    else result += text[at];
    at = end;
  }
  return result;
}

std::string_view without_ends(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  while (true) {
    if (text.ends_with(" ")) text.remove_suffix(1);
    else if (text.ends_with(kSpaceMark)) text.remove_suffix(kSpaceMark.size());
    else break;
  }
  return text;
}

std::string applied(const Step& step, std::string_view text) {
  switch (step.kind) {
    case Step::Kind::prepend: return text.empty() ? std::string() : step.content + std::string(text);
    case Step::Kind::replace: return replaced(text, step.pattern, step.content);
    case Step::Kind::runs: return without_runs(text, step.content);
    case Step::Kind::ends: return std::string(without_ends(text));
    case Step::Kind::strip: return std::string(stripped(text, step.left, step.right));
  }
  return std::string(text);
}

}  // namespace

std::string replaced(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string result;
  result.reserve(text.size() + text.size() / 2);
  std::size_t at = 0;
  for (std::size_t found = text.find(pattern); found != std::string_view::npos; found = text.find(pattern, at)) {
    result += text.substr(at, found - at);
    result += content;
    at = found + pattern.size();
  }
  return result += text.substr(at);
}

bool TextNormalizer::changes_beginning() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const Step& step) {
    const bool writes = step.kind == Step::Kind::replace || step.kind == Step::Kind::runs;
    return step.kind == Step::Kind::ends || step.left ||
           (writes && !step.content.starts_with(" ") && !step.content.starts_with(kSpaceMark));
  });
}

std::string TextNormalizer::apply(std::string_view text) const {
  std::string result(text);
  for (const Step& step : steps_) result = applied(step, result);
  return result;
}

}  // namespace elastiform
