#include <algorithm>

#include "supernet/tokenizers/sentencepiece_model.hpp"
#include "supernet/tokenizers/tokenizer.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace elastiform;

namespace {

void read_and_use(std::string_view file) {
  fuzz::refuses_or_reads([&] {
    const sentencepiece::Model model = sentencepiece::read_model(file, "tokenizer.model");
    fuzz::require(model.pieces.size() <= file.size());
    const Tokenizer tokenizer = Tokenizer::parse(sentencepiece::tokenizer_json(model, "tokenizer.model"), "tokenizer.json");
    fuzz::require(static_cast<std::size_t>(tokenizer.vocabulary()) <= file.size());
    const std::vector<std::int32_t> ids = tokenizer.encode("  In 1611 the\n\n \xFF caf\xC3\xA9▁ab");
    for (const std::int32_t id : ids) fuzz::require(id >= 0 && id < tokenizer.vocabulary());
    for (const std::int32_t id : tokenizer.prefix()) fuzz::require(id >= 0 && id < tokenizer.vocabulary());
    tokenizer.decode(ids);
  });
}

std::string number(int field, char value) { return {static_cast<char>(field << 3), value}; }

/// A piece of one field, its text.
std::string piece(std::string_view text) {
  return "\n" + std::string(1, static_cast<char>(text.size() + 2)) + "\n" + std::string(1, static_cast<char>(text.size())) +
         std::string(text);
}

}  // namespace

// The bytes as a file, and as pieces of a file that is right elsewhere: the first byte says of which kind, each other one how long the next
// is.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes = fuzz::text_of(data, size);
  read_and_use(bytes);
  if (size == 0) return 0;
  std::string file = "\n\x09\n\x05<unk>" + number(3, 2);
  for (const char* letter : {"a", "b", "e", "h", "t", " ", "▁"}) file += piece(letter);
  const std::string kind = number(3, static_cast<char>(1 + (data[0] & 1)));
  file += "\x12" + std::string(1, static_cast<char>(kind.size())) + kind;
  bytes.remove_prefix(1);
  while (!bytes.empty()) {
    const std::size_t length = std::min<std::size_t>(static_cast<unsigned char>(bytes.front()) % 8, bytes.size() - 1);
    std::string one = piece(bytes.substr(1, length));
    // Its score, so that pieces differ.
    one[1] = static_cast<char>(one[1] + 5);
    one += std::string("\x15\0\0", 3) + static_cast<char>(file.size()) + static_cast<char>(0xC0);
    file += one;
    bytes.remove_prefix(1 + length);
  }
  read_and_use(file);
  return 0;
}
