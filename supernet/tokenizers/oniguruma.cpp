#include "supernet/tokenizers/oniguruma.hpp"

#include <utility>

#include "kernels/errors.hpp"

#ifdef ELASTIFORM_ONIGURUMA
#include <oniguruma.h>

#include <memory>
#include <mutex>

namespace elastiform {
namespace {

std::string error_text(int code) {
  OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = onig_error_code_to_str(text, code);
  return {reinterpret_cast<const char*>(text), static_cast<std::size_t>(length)};
}

const OnigUChar* bytes(std::string_view text) { return reinterpret_cast<const OnigUChar*>(text.data()); }

}  // namespace

struct Pattern::State {
  std::string where;
  OnigRegex regex = nullptr;
};

Pattern::Pattern(const std::string& pattern, std::string where) : state_(std::make_unique<State>()) {
  static std::once_flag once;
  std::call_once(once, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
  });
  state_->where = std::move(where);
  const OnigUChar* begin = bytes(pattern);
  OnigErrorInfo info;
  const int code =
      onig_new(&state_->regex, begin, begin + pattern.size(), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
  if (code != ONIG_NORMAL) {
    onig_free(state_->regex);
    throw InputError({state_->where, "a pattern that Oniguruma knows", error_text(code), ""});
  }
}

Pattern::~Pattern() {
  if (state_ == nullptr) return;
  onig_free(state_->regex);
}
Pattern::Pattern(Pattern&&) noexcept = default;

bool Pattern::search(std::string_view text, std::size_t from, Match& match) const {
  const OnigUChar *begin = bytes(text), *end = begin + text.size();
  // Of this call: copies of a tokenizer share the pattern, and may encode at once.
  const std::unique_ptr<OnigRegion, void (*)(OnigRegion*)> region(onig_region_new(), [](OnigRegion* own) { onig_region_free(own, 1); });
  const int code = onig_search(state_->regex, begin, end, begin + from, end, region.get(), ONIG_OPTION_NONE);
  if (code == ONIG_MISMATCH) return false;
  if (code < 0) throw InputError({state_->where, "a pattern that matches in reasonable time", error_text(code), ""});
  match = {static_cast<std::size_t>(region->beg[0]), static_cast<std::size_t>(region->end[0])};
  return true;
}

bool Pattern::available() { return true; }

}  // namespace elastiform
#else

namespace elastiform {

struct Pattern::State {
  std::string where;
};
Pattern::Pattern(const std::string&, std::string where) : state_(std::make_unique<State>(State{std::move(where)})) {}
Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
bool Pattern::search(std::string_view, std::size_t, Match&) const {
  throw InputError(
      {state_->where, "a program with Oniguruma", "one that was built without it", "apt-get install libonig-dev, then ./dev build"});
}
bool Pattern::available() { return false; }

}  // namespace elastiform
#endif
