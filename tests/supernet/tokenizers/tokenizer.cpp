#include "supernet/tokenizers/tokenizer.hpp"

#include <nlohmann/json.hpp>
#include <string>

#include "kernels/errors.hpp"
#include "supernet/formats/hugging_face_tokenizer.hpp"
#include "supernet/tokenizers/oniguruma.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

using Json = nlohmann::json;
using Catch::Matchers::Contains;

const Json& cases() {
  static const Json file = Json::parse(content_of(ELASTIFORM_TEST_DATA "/tokenizer_cases.json"));
  return file;
}

/// A tokenizer.json with the merges of the cases.
Json file_with(const Json& pre_tokenizer, bool ignore_merges = false) {
  return {{"version", "1.0"},
          {"added_tokens", cases()["added_tokens"]},
          {"normalizer", nullptr},
          {"pre_tokenizer", pre_tokenizer},
          {"post_processor", nullptr},
          {"decoder", cases()["decoder"]},
          {"model", {{"type", "BPE"}, {"vocab", cases()["vocab"]}, {"merges", cases()["merges"]}, {"ignore_merges", ignore_merges}}}};
}

Json plain_file() { return file_with({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}); }

std::string decoded(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids) {
  std::string text;
  for (const std::int32_t id : ids) text += tokenizer.text_of(id);
  return text;
}

}  // namespace

TEST_CASE("texts have the ids that the tokenizers package gives them", "[tokenizers]") {
  if (!Pattern::available()) {
    WARN("built without Oniguruma: no patterns");
    return;
  }
  for (const Json& row : cases()["rows"]) {
    const Tokenizer tokenizer = Tokenizer::parse(file_with(row["pre_tokenizer"], row["ignore_merges"]).dump(), "test");
    for (const Json& one : row["cases"]) {
      CAPTURE(row["name"], one[0]);
      const std::string text = one[0];
      CHECK(tokenizer.encode(text) == one[1].get<std::vector<std::int32_t>>());
      if (row["name"] != "prefix_space") CHECK(decoded(tokenizer, tokenizer.encode(text)) == text);
    }
  }
}

TEST_CASE("a token with a character that stands for no byte is met by no text", "[tokenizers]") {
  Json file = plain_file();
  file["model"]["ignore_merges"] = true;
  const std::vector<std::int32_t> without = Tokenizer::parse(file.dump(), "test").encode("日");
  file["model"]["vocab"]["日"] = file["model"]["vocab"].size() + file["added_tokens"].size() + 8;
  CHECK(Tokenizer::parse(file.dump(), "test").encode("日") == without);
}

TEST_CASE("bytes that are no UTF-8 keep their place", "[tokenizers]") {
  const Tokenizer tokenizer = Tokenizer::parse(plain_file().dump(), "test");
  for (const std::string text : {"the \xFF the", "\x80\x80", "\xC3", "a\xE6\x97", "\xED\xA0\x80the", "\xF4\x90\x80\x80", "\xC0\xAF"}) {
    CAPTURE(text);
    CHECK(decoded(tokenizer, tokenizer.encode(text)) == text);
  }
}

TEST_CASE("the byte tokenizer has one id a byte, also as the file that exports write", "[tokenizers]") {
  std::string text;
  for (int byte = 255; byte >= 0; --byte) text += static_cast<char>(byte);
  const Tokenizer bytes = Tokenizer::bytes(), file = Tokenizer::parse(hugging_face::byte_tokenizer(), "test");
  CHECK(bytes.is_bytes());
  CHECK_FALSE(file.is_bytes());
  CHECK(bytes.vocabulary() == 256);
  CHECK(file.vocabulary() == 256);
  CHECK(bytes.encode(text) == file.encode(text));
  CHECK(bytes.encode(text).front() == 255);
  CHECK(decoded(bytes, bytes.encode(text)) == text);
  CHECK(bytes.text_of(256).empty());
  CHECK(bytes.text_of(-1).empty());
}

TEST_CASE("a long piece is merged in a time that grows with its length", "[tokenizers]") {
  const Tokenizer tokenizer = Tokenizer::parse(plain_file().dump(), "test");
  const std::string text(1 << 20, 'a');
  const std::vector<std::int32_t> ids = tokenizer.encode(text);
  CHECK(ids.size() == text.size() / 4);  // "aaaa"
  CHECK(decoded(tokenizer, ids) == text);
}

TEST_CASE("what a template puts before a text is known", "[tokenizers]") {
  Json file = plain_file();
  const Json special = {{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}}, sequence = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const int id = file["added_tokens"][0]["id"];
  const Json known = {{"<|end|>", {{"id", "<|end|>"}, {"ids", {id}}, {"tokens", {"<|end|>"}}}}};
  const Json process = {{"type", "TemplateProcessing"}, {"single", {special, sequence, special}}, {"special_tokens", known}};
  file["post_processor"] = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, process}}};
  CHECK(Tokenizer::parse(file.dump(), "test").prefix() == std::vector<std::int32_t>{id});
  file["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {sequence}}, {"special_tokens", Json::object()}};
  CHECK(Tokenizer::parse(file.dump(), "test").prefix().empty());
}

TEST_CASE("tokenizers that have no place end in one line that names the key", "[tokenizers][hostile]") {
  struct Row {
    const char *pointer, *value, *named;
  };
  const auto row = GENERATE(values<Row>({{"/normalizer", R"({"type": "NFC"})", "normalizer"},
                                         {"/model/type", R"("Unigram")", "model.type"},
                                         {"/model/type", R"("WordPiece")", "model.type"},
                                         {"/model/dropout", "0.1", "dropout"},
                                         {"/model/continuing_subword_prefix", R"("##")", "continuing_subword_prefix"},
                                         {"/model/end_of_word_suffix", R"("</w>")", "end_of_word_suffix"},
                                         {"/model/vocab", "[]", "model.vocab"},
                                         {"/model/vocab", "{}", "model.vocab"},
                                         {"/model/vocab/the", "-1", "model.vocab"},
                                         {"/model/vocab/the", "1.5", "model.vocab"},
                                         {"/model/vocab/the", "3", "every id once"},
                                         {"/model/vocab/the", "16000000", "ids below"},
                                         {"/model/vocab/the", "99999999999", "model.vocab"},
                                         {"/model/merges", "7", "model.merges"},
                                         {"/model/merges/0", R"("ab")", "model.merges"},
                                         {"/model/merges/0", R"("a b c")", "model.merges"},
                                         {"/model/merges/0", R"(["a"])", "model.merges"},
                                         {"/model/merges/0", R"(["q", "q"])", "model.merges"},
                                         {"/pre_tokenizer", R"({"type": "Whitespace"})", "pre_tokenizer.type"},
                                         {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "▁"})", "decoder.type"},
                                         {"/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": []})", "pre_tokenizer"},
                                         {"/pre_tokenizer", R"({"type": "Digits"})", "ByteLevel"},
                                         {"/pre_tokenizer", "null", "pre_tokenizer"},
                                         {"/pre_tokenizer/use_regex", "1", "use_regex"},
                                         {"/decoder", R"({"type": "Metaspace"})", "decoder.type"},
                                         {"/post_processor", R"({"type": "BertProcessing"})", "post_processor.type"},
                                         {"/post_processor", R"({"type": "TemplateProcessing"})", "single"},
                                         {"/added_tokens", "{}", "added_tokens"},
                                         {"/added_tokens/0/content", R"("")", "content"},
                                         {"/added_tokens/0/id", "3", "added_tokens"},
                                         {"/added_tokens/0/lstrip", "true", "lstrip"}}));
  CAPTURE(row.pointer, row.value);
  Json file = plain_file();
  file[Json::json_pointer(row.pointer)] = Json::parse(row.value);
  CHECK_THAT(check_input_error([&] { Tokenizer::parse(file.dump(), "test"); }, row.named), Contains("test"));
}

TEST_CASE("texts that are no tokenizer.json end in one line", "[tokenizers][hostile]") {
  const std::string whole = plain_file().dump();
  for (const std::string& text : {std::string(), std::string("{"), std::string("[]"), std::string("7"), std::string("\xFF"),
                                  whole.substr(0, whole.size() / 2), std::string(100, '['), std::string(R"({"model": 1, "model": 2})")})
    CHECK_THROWS_AS(Tokenizer::parse(text, "test"), InputError);
  if (!Pattern::available()) return;
  Json file = file_with({{"type", "Sequence"},
                         {"pretokenizers",
                          {{{"type", "Split"}, {"pattern", {{"Regex", "(unclosed"}}}, {"behavior", "Isolated"}, {"invert", false}},
                           {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}});
  CHECK_THROWS_WITH(Tokenizer::parse(file.dump(), "test"), Contains("a pattern that Oniguruma knows"));
}

}  // namespace elastiform
