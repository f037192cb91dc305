#include <array>

#include "supernet/formats/hugging_face_tokenizer.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/tokenizers/sentencepiece_model.hpp"
#include "supernet/tokenizers/tokenizer.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace elastiform;

namespace {

void read_and_use(std::string_view json) {
  fuzz::refuses_or_reads([&] {
    const Tokenizer tokenizer = Tokenizer::parse(json, "tokenizer.json");
    fuzz::require(static_cast<std::size_t>(tokenizer.vocabulary()) <= json.size() + 1);
    for (const std::int32_t id : tokenizer.encode("In 1611 the\n\n \xFF caf\xC3\xA9"))
      fuzz::require(id >= 0 && id < tokenizer.vocabulary());
    for (const std::int32_t id : tokenizer.prefix()) fuzz::require(id >= 0 && id < tokenizer.vocabulary());
  });
}

/// A tokenizer.json of characters: BPE, or Unigram.
nlohmann::json of_characters(bool unigram) {
  sentencepiece::Model model{.unigram = unigram, .pieces = {{"<unk>", 0, sentencepiece::Kind::unknown}}};
  float score = 0;
  for (const char* piece : {"th", "the", "t", "h", "e", "\xE2\x96\x81"}) model.pieces.push_back({piece, score -= 1});
  return nlohmann::json::parse(sentencepiece::tokenizer_json(model, "test"));
}

/// The file with these bytes as the value of one key.
std::string with_value(const nlohmann::json& file, const std::string& key, std::string_view value) {
  std::string text;
  for (const auto& [name, held] : file.items()) {
    text += (text.empty() ? "{\"" : ",\"") + name + "\":";
    text += name == key ? std::string(value) : held.dump();
  }
  return text + "}";
}

}  // namespace

// The bytes as a file, and as one value of a file that is right elsewhere, which chance would not find: the first byte says which.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  read_and_use(bytes);
  if (size == 0) return 0;
  constexpr std::array<const char*, 6> keys{
      "\"added_tokens\": ", "\"normalizer\": ", "\"pre_tokenizer\": ", "\"post_processor\": ", "\"decoder\": ", "\"merges\": "};
  std::string file = hugging_face::byte_tokenizer();
  const std::string key = keys[data[0] % keys.size()];
  const std::size_t begin = file.find(key) + key.size();
  const std::size_t next = key.find("merges") != std::string::npos ? file.find("\n", begin) : file.find(",\n  \"", begin);
  file.replace(begin, next - begin, bytes.substr(1));
  read_and_use(file);
  constexpr std::array<const char*, 6> parts{"added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"};
  read_and_use(with_value(of_characters((data[0] & 0x80) != 0), parts[data[0] % parts.size()], bytes.substr(1)));
  return 0;
}
