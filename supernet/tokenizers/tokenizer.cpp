#include "supernet/tokenizers/tokenizer.hpp"

#include <filesystem>
#include <functional>
#include <utility>

#include "kernels/errors.hpp"
#include "supernet/tokenizers/tokenizer_state.hpp"

namespace elastiform {
namespace {

constexpr int kBytes = 256;

}  // namespace

void AddedTokens::add(std::string text, std::int32_t id) { ids_.insert_or_assign(std::move(text), id); }

void AddedTokens::finish() {
  for (const auto& [text, id] : ids_) tokens_.push_back({text, id});
  begins_ = sort_by_text(tokens_);
}

const AddedTokens::Token* AddedTokens::longest_at(std::string_view text) const {
  const Token* longest = nullptr;
  each_match(tokens_, begins_, text, [&](const Token& token) { longest = &token; });
  return longest;
}

void AddedTokens::find(std::string_view text, const std::function<void(std::string_view)>& part,
                       const std::function<void(std::int32_t)>& added) const {
  std::size_t done = 0;
  for (std::size_t at = 0; !tokens_.empty() && at < text.size();) {
    const Token* token = longest_at(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    if (at > done) part(text.substr(done, at - done));
    added(token->id);
    done = at += token->text.size();
  }
  if (done < text.size()) part(text.substr(done));
}

Tokenizer::Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Tokenizer Tokenizer::bytes() {
  auto state = std::make_shared<State>();
  for (int byte = 0; byte < kBytes; ++byte) state->texts.emplace_back(1, static_cast<char>(byte));
  return Tokenizer(std::move(state));
}

Tokenizer Tokenizer::named(const std::string& name) {
  if (name == "bytes") return bytes();
  std::error_code error;
  if (!std::filesystem::is_regular_file(name, error))
    throw InputError(
        {"data.tokenizer", "bytes, or the place of a tokenizer.json or tokenizer.model", "'" + name + "', where no file is", ""});
  return load(name);
}

int Tokenizer::vocabulary() const { return static_cast<int>(state_->texts.size()); }
bool Tokenizer::is_bytes() const { return !state_->pieces && !state_->characters; }
bool Tokenizer::is_of_characters() const { return state_->characters.has_value(); }
bool Tokenizer::is_added(std::int32_t id) const { return state_->added.count(id) != 0; }
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
  if (state_->characters) {
    state_->encode_characters(text, tokens);
    return tokens;
  }
  const auto put = [&](std::int32_t id) { tokens.push_back(id); };
  PieceMemory<BytePairEncoding> memory(state_->merges);
  const auto cut = [&](std::string_view part) { state_->pieces->cut(part, [&](std::string_view piece) { memory.encode(piece, tokens); }); };
  state_->first.find(
      text, [&](std::string_view part) { state_->second.find(part, cut, put); }, put);
  return tokens;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto first = i == 0 ? state_->first_texts.find(ids[i]) : state_->first_texts.end();
    text += first == state_->first_texts.end() ? text_of(ids[i]) : std::string_view(first->second);
  }
  const bool begins = state_->leading == Leading::one_space_less && !text.empty() && text.front() == ' ';
  return begins ? text.substr(1) : text;
}

void Tokenizer::State::encode_characters(std::string_view text, std::vector<std::int32_t>& tokens) const {
  PieceMemory<CharacterModel> memory(characters->model);
  const auto put = [&](std::int32_t id) { tokens.push_back(id); };
  const auto normalize = [&](std::string_view part) {
    const std::string normalized = characters->normalizer.apply(part);
    const auto encode = [&](std::string_view piece) {
      characters->encode(piece, part.data() == text.data() && piece.data() == normalized.data(), memory, tokens);
    };
    second.find(normalized, encode, put);
  };
  first.find(text, normalize, put);
}

}  // namespace elastiform
