#include <string>

#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/tokenizers/sentencepiece_model.hpp"
#include "supernet/tokenizers/tokenizer_json.hpp"

namespace elastiform {
namespace {

constexpr std::size_t kMaxFile = 64 << 20;  // Llama 3's tokenizer.json, of 128,256 ids, takes 17 MB; Gemma's tokenizer.model 4 MB

/// Lines of a token in base64 and its rank, as Llama 3's tokenizer.model, which is a file of OpenAI's tiktoken.
bool is_tiktoken(std::string_view file) {
  const std::string_view line = file.substr(0, file.find('\n'));
  const auto space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space % 4 != 0 || space + 1 == line.size()) return false;
  constexpr const char* kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
  return line.substr(0, space).find_first_not_of(kBase64) == std::string_view::npos &&
         line.substr(space + 1).find_first_not_of("0123456789\r") == std::string_view::npos;
}

}  // namespace

Tokenizer Tokenizer::parse(std::string_view file, const std::string& where) {
  const auto first = file.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || file[first] == '{' || file[first] == '[') return TokenizerJson(file, where).take();
  if (file.substr(0, 8) == "version ")
    throw InputError({where, "a tokenizer.json or a tokenizer.model", "a pointer of Git LFS", "git lfs pull"});
  if (is_tiktoken(file))
    throw InputError(
        {where, "a tokenizer.json or sentencepiece's tokenizer.model", "a tiktoken file", "give the tokenizer.json beside it"});
  // The first field of a tokenizer.model, a piece, has the tag of a line feed.
  if (file.front() != '\n') throw InputError({where, "a tokenizer.json or a tokenizer.model", "something else", kOtherTokenizer});
  return TokenizerJson(sentencepiece::tokenizer_json(sentencepiece::read_model(file, where), where), where).take();
}

Tokenizer Tokenizer::load(const std::string& path) {
  const std::string file = read_small_file(path, kMaxFile);
  return path.ends_with(".json") ? TokenizerJson(file, path).take() : parse(file, path);
}

}  // namespace elastiform
