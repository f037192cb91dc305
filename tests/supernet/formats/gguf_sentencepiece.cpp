// Vocabularies of sentencepiece in GGUF files.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "supernet/formats/gguf.hpp"
#include "supernet/formats/gguf_vocabulary.hpp"
#include "supernet/tokenizers/tokenizer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
using gguf::Metadata;
using Json = nlohmann::json;

Tokenizer tokenizer_of(const std::string& name) {
  return Tokenizer::load((std::filesystem::path(ELASTIFORM_TEST_DATA) / "sentencepiece" / (name + ".model")).string());
}

template <class T>
T& value_of(Metadata& metadata, const std::string& key) {
  const auto found =
      std::find_if(metadata.begin(), metadata.end(), [&](const auto& pair) { return pair.first == "tokenizer.ggml." + key; });
  REQUIRE(found != metadata.end());
  return std::get<T>(found->second);
}

Metadata written(const std::string& json, int rows) {
  Metadata metadata;
  gguf::add_vocabulary(metadata, json, std::nullopt, rows);
  return metadata;
}

/// The tokenizer.json of a file with these keys; empty and `refused` where it has no place.
std::string read(const Metadata& metadata, std::optional<InputError>& refused) {
  const TemporaryFolder folder;
  gguf::write(folder / "model.gguf", metadata, {{"one", gguf::Element::f32, {8}, [] { return std::vector<float>(8); }}});
  return gguf::tokenizer_of(gguf::Reader(folder / "model.gguf"), refused);
}

std::string refusal(const Metadata& metadata) {
  std::optional<InputError> refused;
  CHECK(read(metadata, refused).empty());
  return refused ? refused->what() : "no error";
}

std::string why_not(const Json& json) { return gguf::why_not_tokenizer(json.dump(), 500, std::nullopt); }

}  // namespace

TEST_CASE("a vocabulary of sentencepiece is llama.cpp's, and back", "[formats][gguf][sentencepiece]") {
  const Tokenizer tokenizer = tokenizer_of("bpe");
  Metadata metadata = written(tokenizer.json(), 500);
  CHECK(value_of<std::string>(metadata, "model") == "llama");
  const auto& texts = value_of<std::vector<std::string>>(metadata, "tokens");
  const auto& types = value_of<std::vector<std::int32_t>>(metadata, "token_type");
  const auto& scores = value_of<std::vector<float>>(metadata, "scores");
  REQUIRE(texts.size() == 500);
  REQUIRE(scores.size() == 500);
  CHECK(std::vector<std::int32_t>(types.begin(), types.begin() + 4) == std::vector<std::int32_t>{2, 3, 3, 6});
  CHECK(texts[3] == "<0x00>");
  CHECK(types[499] == 5);
  CHECK(types[259] == 1);
  CHECK(scores[259] == 0);  // what sentencepiece merges first, and second
  CHECK(scores[260] == -1);
  CHECK(value_of<bool>(metadata, "add_space_prefix"));
  CHECK(value_of<bool>(metadata, "add_bos_token"));
  CHECK(value_of<std::uint32_t>(metadata, "bos_token_id") == 1);
  CHECK(value_of<std::uint32_t>(metadata, "eos_token_id") == 2);
  CHECK(value_of<std::uint32_t>(metadata, "unknown_token_id") == 0);

  std::optional<InputError> refused;
  const Tokenizer again = Tokenizer::parse(read(metadata, refused), "test");
  CHECK_FALSE(refused);
  CHECK(again.vocabulary() == tokenizer.vocabulary());
  CHECK(again.prefix() == tokenizer.prefix());
  for (const char* text : {"In the beginning\n God  created", " a", "", "日本 🙂\xFF", "the</s>the"}) {
    CAPTURE(text);
    CHECK(again.encode(text) == tokenizer.encode(text));
  }
  CHECK(written(again.json(), 500) == metadata);
}

TEST_CASE("what a GGUF does not say is llama.cpp's default", "[formats][gguf][sentencepiece]") {
  Metadata metadata = written(tokenizer_of("bpe").json(), 480);
  metadata.erase(std::remove_if(metadata.begin(), metadata.end(),
                                [](const auto& pair) {
                                  return pair.first != "tokenizer.ggml.model" && pair.first != "tokenizer.ggml.tokens" &&
                                         pair.first != "tokenizer.ggml.scores" && pair.first != "tokenizer.ggml.token_type";
                                }),
                 metadata.end());
  std::optional<InputError> refused;
  const Tokenizer tokenizer = Tokenizer::parse(read(metadata, refused), "test");
  CHECK(tokenizer.prefix() == std::vector<std::int32_t>{1});
  CHECK(tokenizer.encode("a") == tokenizer_of("bpe").encode("a"));
  metadata.emplace_back("tokenizer.ggml.add_space_prefix", false);
  metadata.emplace_back("tokenizer.ggml.add_bos_token", false);
  const Tokenizer without = Tokenizer::parse(read(metadata, refused), "test");
  CHECK(without.prefix().empty());
  CHECK(without.encode(" a") == tokenizer.encode("a"));
}

TEST_CASE("tokens that a user defined are found in a text as it was written", "[formats][gguf][sentencepiece]") {
  Json json = Json::parse(tokenizer_of("bpe_tools").json());
  CHECK_THAT(why_not(json), Contains("added token '▁▁'"));  // llama.cpp merges spaces to it, and writes it as it stands here
  json["model"]["vocab"].erase("▁▁");
  json["added_tokens"].erase(5);
  const Tokenizer tokenizer = Tokenizer::parse(json.dump(), "test");
  Metadata metadata = written(json.dump(), 420);
  CHECK(value_of<std::vector<std::int32_t>>(metadata, "token_type")[4] == 4);
  CHECK(value_of<std::vector<std::int32_t>>(metadata, "token_type")[5] == 5);
  CHECK_FALSE(value_of<bool>(metadata, "add_space_prefix"));
  std::optional<InputError> refused;
  const Tokenizer again = Tokenizer::parse(read(metadata, refused), "test");
  for (const char* text : {"<tool>  x\n\n", "   the", "a<tool> the    end", " x"}) CHECK(again.encode(text) == tokenizer.encode(text));
  for (int id = 0; id < tokenizer.vocabulary(); ++id) CHECK(again.text_of(id) == tokenizer.text_of(id));

  const bool prefix = GENERATE(false, true);
  value_of<bool>(metadata, "add_space_prefix") = prefix;
  value_of<std::vector<std::string>>(metadata, "tokens")[4] = "two words";
  const Tokenizer words = Tokenizer::parse(read(metadata, refused), "test");
  CHECK(words.encode("two words") == std::vector<std::int32_t>{4});
  CHECK(words.text_of(4) == "two words");
  value_of<std::vector<std::string>>(metadata, "tokens")[4] = "two▁words";
  CHECK_THAT(refusal(metadata), Contains("no U+2581 in user-defined tokens") && Contains("'two▁words'"));
}

TEST_CASE("tokenizers that llama.cpp would read otherwise are refused", "[formats][gguf][sentencepiece]") {
  CHECK_THAT(why_not(Json::parse(tokenizer_of("unigram").json())), Contains("Unigram"));
  CHECK_THAT(why_not(Json::parse(tokenizer_of("bpe_unknown").json())), Contains("tokens of bytes"));
  CHECK_THAT(why_not(Json::parse(tokenizer_of("bpe_collapsing").json())), Contains("changes texts"));
  const Json good = Json::parse(tokenizer_of("bpe").json());
  CHECK(why_not(good).empty());
  Json json = good;
  json["model"]["merges"].erase(7);
  CHECK_THAT(why_not(json), Contains("merges are others"));
  json = good;
  json["model"]["merges"].push_back(json["model"]["merges"][0]);
  CHECK_THAT(why_not(json), Contains("merges are others"));  // merged at two ranks
  json = good;
  Json& steps = json["normalizer"]["normalizers"];
  steps.insert(steps.begin(), Json::parse(R"({"type": "Strip", "strip_left": true, "strip_right": true})"));
  CHECK_THAT(why_not(json), Contains("changes texts"));
  json = good;
  json["added_tokens"].push_back(json["added_tokens"][0]);
  Json& tool = json["added_tokens"].back();
  tool["id"] = 480, tool["content"] = "<tool>", tool["special"] = false;
  CHECK(why_not(json).empty());
  tool["normalized"] = true;  // then it must have a space before it
  CHECK_THAT(why_not(json), Contains("added token '<tool>'"));
  tool["special"] = true;
  CHECK(why_not(json).empty());
  CHECK_THAT(gguf::note_on_tokenizer(json.dump()), Contains("llama.cpp finds '<tool>' everywhere"));
  tool["special"] = tool["normalized"] = false, tool["content"] = "▁▁";
  CHECK_THAT(why_not(json), Contains("added token '▁▁'"));
}

TEST_CASE("Metaspace is llama.cpp's space before a text, with a note on where it is not", "[formats][gguf][sentencepiece]") {
  Json json = Json::parse(tokenizer_of("bpe").json());
  CHECK(gguf::note_on_tokenizer(json.dump()).empty());
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", false}};
  json["added_tokens"].push_back(json["added_tokens"][0]);
  Json& tool = json["added_tokens"].back();
  tool["id"] = 480, tool["content"] = "<tool>", tool["special"] = false;
  const std::string scheme = GENERATE("first", "always", "never");
  CAPTURE(scheme);
  json["pre_tokenizer"]["prepend_scheme"] = scheme;
  CHECK(why_not(json).empty());
  Metadata metadata = written(json.dump(), 481);
  CHECK(value_of<bool>(metadata, "add_space_prefix") == (scheme != "never"));
  const std::string note = gguf::note_on_tokenizer(json.dump());
  CHECK(note.empty() == (scheme == "never"));
  CHECK((note.find("behind added tokens inside a text") != std::string::npos) == (scheme == "first"));

  std::optional<InputError> refused;
  const Tokenizer tokenizer = Tokenizer::parse(json.dump(), "test"), again = Tokenizer::parse(read(metadata, refused), "test");
  for (const char* text : {"In the beginning", "the <tool>", "a\n  b", "<s>", "a▁b▁"}) {
    CAPTURE(text);
    CHECK(again.encode(text) == tokenizer.encode(text));
  }
  // Ids by llama.cpp: its own space stands before these, too.
  CHECK((again.encode(" the") == tokenizer.encode(" the")) == (scheme == "never"));
  CHECK((again.encode("a<tool>the") == tokenizer.encode("a<tool>the")) == (scheme != "first"));
}

TEST_CASE("vocabularies of sentencepiece that have no place are left to --tokenizer, with the reason",
          "[formats][gguf][sentencepiece][hostile]") {
  const Metadata good = written(tokenizer_of("bpe").json(), 480);
  Metadata metadata = good;
  value_of<std::vector<float>>(metadata, "scores").assign(480, -1000);  // as converters once wrote them
  CHECK_THAT(refusal(metadata), Contains("one score"));
  metadata = good;
  value_of<std::vector<float>>(metadata, "scores").pop_back();
  CHECK_THAT(refusal(metadata), Contains("480 numbers"));
  metadata = good;
  for (auto& [key, value] : metadata)
    if (key == "tokenizer.ggml.scores") value = std::vector<std::int32_t>(480, 0);
  CHECK_THAT(refusal(metadata), Contains("numbers with a point"));
  metadata = good;
  value_of<std::vector<std::int32_t>>(metadata, "token_type")[9] = 7;
  CHECK_THAT(refusal(metadata), Contains("types from 1 to 6"));
  metadata = good;
  value_of<std::vector<std::int32_t>>(metadata, "token_type")[9] = 1;
  CHECK_THAT(refusal(metadata), Contains("a piece for each byte") || Contains("characters that are pieces"));
  metadata = good;
  value_of<std::vector<std::string>>(metadata, "tokens")[300] = "\xFF";
  CHECK_THAT(refusal(metadata), Contains("UTF-8"));
  metadata = good;
  value_of<std::vector<std::string>>(metadata, "tokens")[300] = "<s>";
  CHECK_THAT(refusal(metadata), Contains("every piece once"));
  metadata = good;
  value_of<std::vector<std::int32_t>>(metadata, "token_type")[259] = 5;  // made of two characters
  CHECK_THAT(refusal(metadata), Contains("unused tokens that no two tokens make") && Contains("id 259"));
  metadata = good;
  value_of<std::uint32_t>(metadata, "bos_token_id") = 480;
  CHECK_THAT(refusal(metadata), Contains("bos_token_id"));
}

}  // namespace elastiform
