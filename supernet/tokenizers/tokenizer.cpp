#include "supernet/tokenizers/tokenizer.hpp"

#include <functional>
#include <unordered_map>
#include <utility>

#include "supernet/tokenizers/tokenizer_state.hpp"

namespace elastiform {
namespace {

constexpr int kBytes = 256;
// Words repeat: of English text more than 9 of 10 pieces come from here. Longer pieces are rare, and more words are no longer frequent.
constexpr std::size_t kRememberedPieces = 1 << 17, kLongestRemembered = 64;

/// The tokens of pieces, each piece merged once.
class Memory {
 public:
  explicit Memory(const BytePairEncoding& merges) : merges_(merges) {}
  void encode(std::string_view piece, std::vector<std::int32_t>& tokens) {
    if (piece.size() > kLongestRemembered) return merges_.encode(piece, tokens);
    key_.assign(piece);
    auto found = known_.find(key_);
    if (found == known_.end()) {
      if (known_.size() == kRememberedPieces) known_.clear();
      found = known_.emplace(key_, std::vector<std::int32_t>{}).first;
      merges_.encode(piece, found->second);
    }
    tokens.insert(tokens.end(), found->second.begin(), found->second.end());
  }

 private:
  const BytePairEncoding& merges_;
  std::string key_;
  std::unordered_map<std::string, std::vector<std::int32_t>> known_;
};

/// Calls added(id) for the leftmost, and of those that begin at one place the longest, of `list`, and text(part) for what lies between.
template <class List>
void find_added(std::string_view text, const List& list, const std::function<void(std::string_view)>& part,
                const std::function<void(std::int32_t)>& added) {
  if (list.empty()) return part(text);
  bool begins[kBytes] = {};
  for (const auto& one : list) begins[static_cast<unsigned char>(one.text.front())] = true;
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto* best = static_cast<decltype(list.data())>(nullptr);
    if (begins[static_cast<unsigned char>(text[at])])
      for (const auto& one : list)
        if ((best == nullptr || one.text.size() > best->text.size()) && text.substr(at, one.text.size()) == one.text) best = &one;
    if (best == nullptr) {
      ++at;
      continue;
    }
    if (at > done) part(text.substr(done, at - done));
    added(best->id);
    done = at += best->text.size();
  }
  if (done < text.size()) part(text.substr(done));
}

}  // namespace

Tokenizer::Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Tokenizer Tokenizer::bytes() {
  auto state = std::make_shared<State>();
  for (int byte = 0; byte < kBytes; ++byte) state->texts.emplace_back(1, static_cast<char>(byte));
  return Tokenizer(std::move(state));
}

Tokenizer Tokenizer::named(const std::string& name) { return name == "bytes" ? bytes() : load(name); }

int Tokenizer::vocabulary() const { return static_cast<int>(state_->texts.size()); }
bool Tokenizer::is_bytes() const { return !state_->pieces.has_value(); }
const std::string& Tokenizer::json() const { return state_->json; }
const std::string& Tokenizer::sha256() const { return state_->sha256; }
const std::vector<std::int32_t>& Tokenizer::prefix() const { return state_->prefix; }

std::string_view Tokenizer::text_of(std::int32_t id) const {
  if (id < 0 || id >= vocabulary()) return {};
  return state_->texts[static_cast<std::size_t>(id)];
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> tokens;
  if (is_bytes()) {
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  Memory memory(state_->merges);
  const auto put = [&](std::int32_t id) { tokens.push_back(id); };
  const auto cut = [&](std::string_view part) {
    state_->pieces->cut(part, [&](std::string_view piece) { memory.encode(piece, tokens); });
  };
  find_added(text, state_->first, [&](std::string_view part) { find_added(part, state_->second, cut, put); }, put);
  return tokens;
}

}  // namespace elastiform
