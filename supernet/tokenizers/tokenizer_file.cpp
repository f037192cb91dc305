#include <string>

#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/tokenizers/sentencepiece_model.hpp"
#include "supernet/tokenizers/tokenizer_json.hpp"

namespace elastiform {
namespace {

constexpr std::size_t kMaxFile = 64 << 20;  // Llama 3's tokenizer.json, of 128,256 ids, takes 17 MB; Gemma's tokenizer.model 4 MB

bool ends_with(const std::string& path, std::string_view suffix) {
  return path.size() >= suffix.size() && path.compare(path.size() - suffix.size(), suffix.size(), suffix) == 0;
}

}  // namespace

Tokenizer Tokenizer::parse(std::string_view file, const std::string& where) {
  const auto first = file.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || file[first] == '{' || file[first] == '[') return TokenizerJson(file, where).take();
  if (file.substr(0, 8) == "version ")
    throw InputError({where, "a tokenizer.json or a tokenizer.model", "a pointer of Git LFS", "git lfs pull"});
  // The first field of a tokenizer.model, a piece, has the tag of a line feed.
  if (file.front() != '\n') throw InputError({where, "a tokenizer.json or a tokenizer.model", "something else", ""});
  return TokenizerJson(sentencepiece::tokenizer_json(sentencepiece::read_model(file, where), where), where).take();
}

Tokenizer Tokenizer::load(const std::string& path) {
  const std::string file = read_small_file(path, kMaxFile);
  return ends_with(path, ".json") ? TokenizerJson(file, path).take() : parse(file, path);
}

}  // namespace elastiform
