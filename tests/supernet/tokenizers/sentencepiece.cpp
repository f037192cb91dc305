// Tokenizers of characters: sentencepiece's own files, and tokenizer.json files of that kind.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "kernels/errors.hpp"
#include "supernet/tokenizers/sentencepiece_model.hpp"
#include "supernet/tokenizers/tokenizer.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Json = nlohmann::json;
using Catch::Matchers::Contains;

std::filesystem::path data() { return ELASTIFORM_TEST_DATA; }

const Json& cases() {
  static const Json file = [] {
    std::ifstream stream(data() / "sentencepiece_cases.json");
    return Json::parse(stream);
  }();
  return file;
}

std::string model_file(const std::string& name) {
  std::ifstream stream(data() / "sentencepiece" / (name + ".model"), std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  return bytes.str();
}

Json file_of(const Json& row) {
  Json file = row["file"];
  file["model"] = cases()["models"][row["model"].get<std::string>()];
  return file;
}

Json json_of(const std::string& model) { return Json::parse(Tokenizer::parse(model_file(model), "test").json()); }

/// Protocol Buffers' wire format, as a tokenizer.model is written.
std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string number(int field, std::uint64_t value) { return varint(static_cast<std::uint64_t>(field) << 3) + varint(value); }
std::string message(int field, const std::string& bytes) {
  return varint(static_cast<std::uint64_t>(field) << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string real(int field, float value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return varint(static_cast<std::uint64_t>(field) << 3 | 5) + bytes;
}
std::string piece(const std::string& text, float score, int type = 1) {
  return message(1, message(1, text) + real(2, score) + number(3, static_cast<std::uint64_t>(type)));
}

const std::string kUnknown = piece("<unk>", 0, 2);
const std::string kLetters = piece("a", -10) + piece("b", -11) + piece("▁", -12);
const std::string kBpe = message(2, number(3, 2));
const std::string kPlain = message(3, number(4, 0));  // keeps spaces

std::string refusal(const std::string& file) {
  try {
    Tokenizer::parse(file, "test");
  } catch (const InputError& error) {
    const std::string line = error.what();
    CHECK(line.find('\n') == std::string::npos);
    CHECK(line.find("test") == 0);
    return line;
  }
  return "no error";
}

}  // namespace

TEST_CASE("texts have the ids that sentencepiece gives them, also by the tokenizer.json", "[tokenizers][sentencepiece]") {
  for (const Json& row : cases()["sentencepiece"]) {
    const Tokenizer tokenizer = Tokenizer::parse(model_file(row["model"]), "test"), json = Tokenizer::parse(tokenizer.json(), "test");
    CHECK(tokenizer.is_of_characters());
    CHECK(tokenizer.prefix() == std::vector<std::int32_t>{row["begin"].get<std::int32_t>()});
    const bool keeps = row["model"] != "bpe_collapsing" && row["model"] != "bpe_unknown" && row["model"] != "unigram_unknown";
    for (const Json& one : row["cases"]) {
      CAPTURE(row["model"], one[0]);
      const std::string text = one[0];
      CHECK(tokenizer.encode(text) == one[1].get<std::vector<std::int32_t>>());
      CHECK(json.encode(text) == one[1].get<std::vector<std::int32_t>>());
      std::string back = text;  // a character that stands for a space is one afterwards
      for (std::size_t at = back.find("▁"); at != std::string::npos; at = back.find("▁")) back.replace(at, 3, " ");
      if (keeps) CHECK(tokenizer.decode(tokenizer.encode(text)) == back);
    }
  }
}

TEST_CASE("texts have the ids and ids the texts that the tokenizers package gives them", "[tokenizers][sentencepiece]") {
  for (const Json& row : cases()["tokenizers"]) {
    const Tokenizer tokenizer = Tokenizer::parse(file_of(row).dump(), "test");
    for (const Json& one : row["cases"]) {
      CAPTURE(row["name"], one[0]);
      const auto ids = tokenizer.encode(one[0].get<std::string>());
      CHECK(ids == one[1].get<std::vector<std::int32_t>>());
      if (one[2].is_string()) CHECK(tokenizer.decode(ids) == one[2].get<std::string>());
    }
  }
}

TEST_CASE("bytes that are no UTF-8 are kept where bytes have tokens, and are unknown elsewhere", "[tokenizers][sentencepiece]") {
  const std::string text = GENERATE("the \xFF the", "\x80\x80", "\xC3", "a\xE6\x97", "\xED\xA0\x80the", "\xF4\x90\x80\x80", "\xC0\xAF");
  CAPTURE(text);
  for (const char* model : {"bpe", "unigram"}) {
    const Tokenizer tokenizer = Tokenizer::parse(model_file(model), "test");
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  }
  for (const char* model : {"bpe_unknown", "unigram_unknown"}) {
    const std::vector<std::int32_t> ids = Tokenizer::parse(model_file(model), "test").encode(text);
    CHECK(std::count(ids.begin(), ids.end(), 0) == 1);  // neighbours are one
  }
}

TEST_CASE("a long line takes a time that grows with its length", "[tokenizers][sentencepiece]") {
  const std::string text(1 << 20, 'a');
  for (const char* model : {"bpe", "bpe_across_words", "unigram"}) {
    const Tokenizer tokenizer = Tokenizer::parse(model_file(model), "test");
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  }
}

TEST_CASE("added tokens are found where text does not end, and a space before a text is not its own", "[tokenizers][sentencepiece]") {
  const Tokenizer tokenizer = Tokenizer::parse(model_file("bpe"), "test");
  const std::vector<std::int32_t> ids = tokenizer.encode("a</s>");
  CHECK(ids.back() == 2);
  CHECK(tokenizer.is_added(2));
  CHECK_FALSE(tokenizer.is_added(ids.front()));
  CHECK(tokenizer.text_of(2) == "</s>");
  CHECK(tokenizer.text_of(ids.front()).front() == ' ');
  CHECK(tokenizer.decode(ids) == "a</s>");
  CHECK(tokenizer.decode({}).empty());
}

TEST_CASE("an unknown character costs 10 more than the worst piece", "[tokenizers][sentencepiece]") {
  Json file = json_of("unigram_unknown");
  file["pre_tokenizer"] = file["normalizer"] = nullptr;
  // Ids by tokenizers 0.23.3: -20 against 9.5 - 30, and against 10.5 - 30.
  file["model"]["vocab"] = Json::parse(R"([["<unk>", 0], ["<s>", 0], ["</s>", 0], ["y", 9.5], ["yz", -20]])");
  CHECK(Tokenizer::parse(file.dump(), "test").encode("yz") == std::vector<std::int32_t>{4});
  file["model"]["vocab"][3][1] = 10.5;
  CHECK(Tokenizer::parse(file.dump(), "test").encode("yz") == std::vector<std::int32_t>{3, 0});
}

TEST_CASE("pieces of one score merge from left to right nowhere, so they are refused", "[tokenizers][sentencepiece]") {
  const std::string file = kUnknown + kLetters + piece("ab", -1) + piece("ba", -2) + kBpe + kPlain;
  const Tokenizer tokenizer = Tokenizer::parse(file, "test");
  CHECK(tokenizer.encode("bab") == std::vector<std::int32_t>{3, 2, 4});  // "ab" has the better score
  CHECK(tokenizer.prefix().empty());
  CHECK_THAT(refusal(kUnknown + kLetters + piece("ab", -1) + piece("ba", -1) + kBpe + kPlain), Contains("'ba'") && Contains("one score"));
}

TEST_CASE("of a text's first token Metaspace leaves out marks, not spaces", "[tokenizers][sentencepiece]") {
  Json file = json_of("unigram");
  file["normalizer"] = nullptr;
  file["pre_tokenizer"] = file["decoder"] = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", true}};
  file["added_tokens"].push_back(file["added_tokens"][0]);
  file["added_tokens"].back().update({{"id", 480}, {"content", "c d"}, {"special", false}});
  const Tokenizer tokenizer = Tokenizer::parse(file.dump(), "test");
  CHECK(tokenizer.decode(tokenizer.encode("c d the")) == "c d the");
  CHECK(tokenizer.decode(tokenizer.encode("the c d")) == "the c d");
  CHECK(tokenizer.decode(tokenizer.encode(" the")) == "the");
}

TEST_CASE("bytes written out in a text of a Unigram model are text", "[tokenizers][sentencepiece]") {
  Json file = json_of("unigram");
  for (Json& pair : file["model"]["vocab"])
    if (pair[0].get<std::string>().starts_with("<0x")) pair[1] = 0.0;  // as files made elsewhere have them
  const Tokenizer model = Tokenizer::parse(model_file("unigram"), "test"), json = Tokenizer::parse(file.dump(), "test");
  for (const char* text : {"<0x0A>", "a<0x41>b", "\n", "日<0x0A>日"}) {
    CAPTURE(text);
    const std::vector<std::int32_t> ids = model.encode(text);
    CHECK(json.encode(text) == ids);
    CHECK(model.decode(ids) == text);
  }
}

TEST_CASE("pieces that can be made in too many ways are refused", "[tokenizers][sentencepiece][hostile]") {
  const auto runs = [](int longest) {
    std::string file;
    for (int length = 2; length <= longest; ++length)
      file += piece(std::string(static_cast<std::size_t>(length), 'a'), static_cast<float>(-20 - length));
    return file;
  };
  CHECK_THAT(refusal(kUnknown + kLetters + runs(300) + kBpe + kPlain), Contains("ways to make its pieces"));
  std::string many;  // so that there are few ways on average
  for (int i = 0; i < 4096; ++i)
    many += piece({static_cast<char>(0xE4), static_cast<char>(0x80 + i / 64), static_cast<char>(0x80 + i % 64)}, -1);
  CHECK_NOTHROW(Tokenizer::parse(kUnknown + kLetters + many + runs(64) + kBpe + kPlain, "test"));
  CHECK_THAT(refusal(kUnknown + kLetters + many + runs(512) + kBpe + kPlain), Contains("at most 32 MiB"));
}

TEST_CASE("added tokens of many lengths are found in a time that grows with a text's length", "[tokenizers][sentencepiece][hostile]") {
  std::string file = kUnknown + kLetters + kBpe + message(3, number(3, 0) + number(4, 0));
  for (std::size_t length = 1; length < 512; ++length) file += piece(std::string(length, 'a') + "x", 0, 4);
  const Tokenizer tokenizer = Tokenizer::parse(file, "test");
  CHECK(tokenizer.encode(std::string(1 << 15, 'a') + "x").size() == (1 << 15) - 511 + 1);
  CHECK(tokenizer.encode("aax") == std::vector<std::int32_t>{5});
  CHECK_THAT(refusal(file + piece(std::string(512, 'a') + "x", 0, 4)), Contains("at most 512 bytes"));
  Json json = json_of("unigram");
  json["model"]["vocab"].push_back(Json::array({std::string(513, 'a'), -1}));
  CHECK_THAT(refusal(json.dump()), Contains("at most 512 bytes"));
}

TEST_CASE("files that are no tokenizer.model, or one without a place, end in one line", "[tokenizers][sentencepiece][hostile]") {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::string rest = kLetters + kBpe + kPlain, good = kUnknown + rest;
  REQUIRE_NOTHROW(Tokenizer::parse(good, "test"));
  struct Row {
    std::string file;
    const char* named;
  };
  for (const Row& row : std::initializer_list<Row>{
           {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
           {"\x89PNG", "something else"},
           {"IQ== 0\nIg== 1\n", "a tiktoken file; give the tokenizer.json beside it"},
           {"\n\x01", "inside its message"},
           {"\n\x05"
            "xy",
            "inside its message"},
           {std::string("\n\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11), "inside its message"},
           {"\n" + std::string(11, '\xFF'), "a number of at most 10 bytes"},
           {good + "\x0B", "wire type"},
           {good + std::string("\x00\x00", 2), "a field from 1"},
           {good + "\x0D\x01\x02\x03\x04", "field 1 of wire type 2"},
           {kUnknown + message(1, number(1, 7)) + rest, "piece 1: expected field 1 of wire type 2"},
           {kUnknown + message(1, message(1, "x") + number(2, 7)) + rest, "field 2 of wire type 5"},
           {kUnknown + message(1, message(1, "x") + message(3, "n")) + rest, "field 3 of wire type 0"},
           {kUnknown + piece("x", 0, 0) + rest, "a type from 1 to 6"},
           {kUnknown + piece("x", 0, 7) + rest, "a type from 1 to 6"},
           {kUnknown + piece("x", 0, 5) + rest, "UNUSED"},
           {kUnknown + piece("", 0) + rest, "piece 1"},
           {kUnknown + piece("\xC3", 0) + rest, "UTF-8"},
           {kUnknown + piece("a", 0) + rest, "every piece once"},
           {kUnknown + piece("x", infinity) + rest, "a finite score"},
           {kUnknown + piece("x", std::numeric_limits<float>::quiet_NaN()) + rest, "a finite score"},
           {kUnknown + piece(std::string(513, 'a'), -3) + rest, "at most 512 bytes"},
           {kUnknown + piece("ax", -3) + rest, "without 'x'"},
           {piece("x", 0) + rest, "one piece of type UNKNOWN"},
           {kUnknown + piece("<none>", 0, 2) + rest, "one piece of type UNKNOWN"},
           {kUnknown + piece("<0x00>", 0, 6) + rest, "byte_fallback"},
           {good + message(2, number(3, 2) + number(35, 1)), "byte_fallback"},
           {kUnknown + piece("<0x00>", 0, 6) + kLetters + message(2, number(3, 2) + number(35, 1)), "none for <0x01>"},
           {good + message(2, number(3, 3)), "model_type"},
           {good + message(2, number(3, 99)), "model_type"},
           {good + message(2, number(3, 2) + number(24, 1)), "treat_whitespace_as_suffix"},
           {good + message(2, message(3, "x")), "trainer_spec: expected field 3"},
           {good + message(3, message(1, "nmt_nfkc") + message(2, "table")), "'nmt_nfkc'"},
           {good + message(3, message(1, "a\nb\x01") + message(2, "table")), "'a?b?'"},
           {good + message(3, number(5, 0)), "escape_whitespaces"},
           {good + message(5, message(2, "table")), "denormalizer_spec"},
           {kUnknown + piece("<tool>", 0, 4) + rest, "add_dummy_prefix"},
           {kUnknown + piece("<tool>", 0, 4) + kLetters, "no user-defined pieces in a Unigram model"},
           {kUnknown + piece("a b", 0, 4) + kLetters + kBpe + message(3, number(3, 0) + number(4, 0)), "does not change, found 'a b'"},
           {kUnknown + piece("b▁", 0, 4) + kLetters + kBpe + message(3, number(3, 0)), "does not change, found 'b▁'"},
           {kUnknown + piece("a\x1B[0m\xC2\x9B", -3) + rest, "'a?[0m?' without '?'"},
           {kBpe + kPlain, "something else"},
           {"\n" + std::string(1, '\0') + kBpe, "piece 0"}}) {
    CAPTURE(row.named);
    CHECK_THAT(refusal(row.file), Contains(row.named));
  }
}

TEST_CASE("a tokenizer.model cut off anywhere is read or refused", "[tokenizers][sentencepiece][hostile]") {
  const std::string file = model_file("bpe_unknown");
  for (std::size_t size = 0; size < file.size(); size += 7) try {
      Tokenizer::parse(std::string_view(file).substr(0, size), "test");
    } catch (const InputError&) {
    }
  std::string damaged = file;
  for (std::size_t at = 0; at < file.size(); at += 11) {
    damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
    try {
      Tokenizer::parse(damaged, "test").encode("the LORD");
    } catch (const InputError&) {
    }
    damaged[at] = file[at];
  }
}

TEST_CASE("tokenizer.json files of characters that have no place end in one line", "[tokenizers][sentencepiece][hostile]") {
  struct Row {
    const char *model, *pointer, *value, *named;
  };
  const auto row = GENERATE(values<Row>({
      {"bpe", "/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "AA=="})", "Precompiled"},
      {"bpe", "/normalizer", R"({"type": "NFKC"})", "NFKC"},
      {"bpe", "/normalizer", R"({"type": "Lowercase"})", "Lowercase"},
      {"bpe", "/normalizer/normalizers", "7", "normalizers"},
      {"bpe", "/normalizer/normalizers/0/prepend", "7", "normalizer.prepend"},
      {"bpe", "/normalizer/normalizers/1/content", R"("")", "normalizer.content"},
      {"bpe", "/normalizer/normalizers/1/content", R"("▁▁▁")", "at most 8 times as long"},
      {"bpe", "/normalizer/normalizers/2", R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aaa"})",
       "at most 8 times as long"},
      {"bpe", "/normalizer/normalizers/2", R"({"type": "Prepend", "prepend": "▁▁"})", "at most 8 bytes in all"},
      {"bpe", "/decoder/decoders/0/content", R"("123456789012345678901234567890")", "at most 8 times as long"},
      {"bpe", "/normalizer/normalizers/1/pattern", R"({"Regex": "\\p{L}"})", "Regex"},
      {"bpe", "/normalizer/normalizers/1/pattern", R"({"String": ""})", "String"},
      {"bpe", "/normalizer/normalizers/1/pattern", "7", "pattern"},
      {"bpe", "/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_"})", "replacement"},
      {"bpe", "/pre_tokenizer", R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "last"})", "prepend_scheme"},
      {"bpe", "/pre_tokenizer", R"({"type": "Metaspace", "replacement": "▁", "split": 1})", "split"},
      {"bpe", "/pre_tokenizer", R"({"type": "Whitespace"})", "normalizer"},
      {"bpe", "/decoder", "null", "decoder"},
      {"bpe", "/decoder", R"({"type": "BPEDecoder"})", "decoder.type"},
      {"bpe", "/decoder", R"({"type": "Strip", "content": " ", "start": 1, "stop": 0})", "behind Fuse"},
      {"bpe", "/decoder/decoders/3/start", "2", "decoder.start"},
      {"bpe", "/decoder/decoders/3/stop", "1", "decoder.stop"},
      {"bpe", "/decoder/decoders/3/content", R"("x")", "decoder.content"},
      {"bpe", "/model/unk_token", R"("<none>")", "unk_token"},
      {"bpe", "/model/ignore_merges", "true", "ignore_merges"},
      {"bpe", "/model/vocab/<0x41>", "null", "model.vocab"},
      {"bpe", "/model/type", R"("WordLevel")", "BPE or Unigram"},
      {"unigram", "/model/unk_id", "null", "unk_id"},
      {"unigram", "/model/unk_id", "999", "unk_id"},
      {"unigram", "/model/vocab", "{}", "model.vocab"},
      {"unigram", "/model/vocab", "[]", "model.vocab"},
      {"unigram", "/model/vocab/7", "7", "pairs"},
      {"unigram", "/model/vocab/7", R"(["x", "y"])", "pairs"},
      {"unigram", "/model/vocab/7", R"(["", 1])", "pieces of text"},
      {"unigram", "/model/vocab/7", R"(["<0x42>", 1])", "every piece once"},
      {"unigram", "/model/vocab/70", R"(["x<0x42>", 1])", "256 tokens"},
  }));
  CAPTURE(row.model, row.pointer, row.value);
  Json file = json_of(row.model);
  file[Json::json_pointer(row.pointer)] = Json::parse(row.value);
  CHECK_THAT(refusal(file.dump()), Contains(row.named));
}

}  // namespace elastiform
