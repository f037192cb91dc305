#include "supernet/data/token_source.hpp"

#include <algorithm>
#include <filesystem>

#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "supernet/data/text_data.hpp"
#include "supernet/data/token_shard.hpp"
#include "supernet/formats/hugging_face_tokenizer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

/// The byte tokenizer with one merge, "ab": no pattern, so it needs no Oniguruma.
std::string tokenizer_json() {
  std::string json = hugging_face::byte_tokenizer();
  const auto replace = [&](const std::string& from, const std::string& to) {
    const auto at = json.find(from);
    REQUIRE(at != std::string::npos);
    json.replace(at, from.size(), to);
  };
  replace("\"merges\": []", "\"merges\": [[\"a\", \"b\"]]");
  replace("\"vocab\": {", "\"vocab\": {\"ab\": 256,");
  return json;
}

std::string text_of(std::size_t bytes, std::uint64_t seed) {
  RandomStream random(seed, Purpose::test);
  std::string text;
  while (text.size() < bytes) text += "abc \n"[random.below(5)];
  return text;
}

void write_shard(const std::string& path, const Tokenizer& tokenizer, const std::string& text, int vocabulary = 0) {
  write_token_shard(path, tokenizer.encode(text), vocabulary > 0 ? vocabulary : tokenizer.vocabulary(), tokenizer.sha256());
}

}  // namespace

TEST_CASE("a text and its shards are the same data", "[supernet][data][tokenizers]") {
  const TemporaryFolder folder;
  const std::string json = folder.write("tokenizer.json", tokenizer_json());
  const Tokenizer tokenizer = Tokenizer::load(json);
  const std::string text = text_of(20000, 1), file = folder.write("text", text);
  write_shard(folder / "narrow", tokenizer, text);
  write_shard(folder / "wide", tokenizer, text, 1 << 17);
  DataOptions options{.text = "", .tokenizer = json, .splits = {80, 10, 10}, .split_block = 500};
  const TextData data(file, options, 32);
  const auto tokens = static_cast<std::size_t>(data.size());
  CHECK(tokens < text.size());
  CHECK(std::filesystem::file_size(folder / "narrow") == TokenShard::kHeaderBytes + 2 * tokens);
  CHECK(std::filesystem::file_size(folder / "wide") == TokenShard::kHeaderBytes + 4 * tokens);
  for (const char* shard : {"narrow", "wide"}) {
    const TextData same(folder / shard, options, 32);
    CHECK(same.sha256() == data.sha256());
    CHECK(same.tokens(0, data.size()) == data.tokens(0, data.size()));
    CHECK(same.training_batch(3, 4, 8, 32).targets == data.training_batch(3, 4, 8, 32).targets);
    const std::vector<Window> windows = same.scoring_windows(Split::search, 32, 16, 0);
    CHECK(same.scoring_batch(windows, 0, 3, 32).targets == data.scoring_batch(windows, 0, 3, 32).targets);
    CHECK(same.bytes_per_token(windows) == data.bytes_per_token(windows));
  }
  // Every token of the text is counted once: the bytes that were scored are the text's.
  std::string decoded;
  for (const std::int32_t id : data.tokens(0, data.size())) decoded += tokenizer.text_of(id);
  CHECK(decoded == text);
  std::int64_t bytes = 0, count = 0;
  const std::vector<Window> windows = data.scoring_windows(Split::report, 32, 16, 0);
  for (const Segment& segment : data.segments(Split::report))
    for (const std::int32_t id : data.tokens(segment.begin + 1, segment.end)) bytes += id == 256 ? 2 : 1, ++count;
  CHECK(data.bytes_per_token(windows) == static_cast<double>(bytes) / static_cast<double>(count));
  CHECK(data.bytes_per_token(windows) > 1.02);  // one pair of letters in 25 is merged
}

TEST_CASE("a folder of shards is the folder of its texts", "[supernet][data][tokenizers]") {
  const TemporaryFolder folder;
  const std::string json = folder.write("tokenizer.json", tokenizer_json());
  const Tokenizer tokenizer = Tokenizer::load(json);
  std::filesystem::create_directories(folder / "texts");
  std::filesystem::create_directories(folder / "shards");
  for (const int i : {1, 2, 3, 4}) {
    const std::string name = std::to_string(i) + ".txt", text = text_of(3000, static_cast<std::uint64_t>(i));
    folder.write("texts/" + name, text);
    write_shard(folder / "shards/" + name + TokenShard::kSuffix, tokenizer, text);
  }
  const DataOptions options{.text = "", .tokenizer = json, .splits = {2, 1, 1}, .split_block = 500};
  const TextData texts(folder / "texts", options, 32), shards(folder / "shards", options, 32);
  CHECK(texts.sha256() == shards.sha256());
  CHECK(texts.training_batch(0, 0, 4, 32).inputs == shards.training_batch(0, 0, 4, 32).inputs);
  folder.write("shards/5.txt", "text");
  CHECK_THROWS_WITH(TextData(folder / "shards", options, 32), Contains("a token shard, as the others"));
}

TEST_CASE("damaged shards, and those of another tokenizer, end in one line", "[supernet][data][tokenizers][hostile]") {
  const TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::parse(tokenizer_json(), "test");
  const std::string path = folder / "shard";
  write_shard(path, tokenizer, text_of(3000, 1));
  const std::string whole = content_of(path);
  const auto opened = [&](std::string bytes) {
    overwrite(path, bytes);
    return open_tokens(path, tokenizer);
  };
  CHECK_NOTHROW(opened(whole));
  for (const std::size_t size : {std::size_t{9}, TokenShard::kHeaderBytes - 1, whole.size() - 1, whole.size() - 2})
    CHECK_THROWS_AS(opened(whole.substr(0, size)), InputError);
  struct Row {
    std::size_t at;
    const char* named;
  };
  for (const Row& row : {Row{8, "version"}, Row{12, "2 or 4"}, Row{17, "ids"}, Row{23, "ids"}, Row{30, "another tokenizer"}}) {
    std::string changed = whole;
    changed[row.at] = static_cast<char>(changed[row.at] ^ 0x55);
    CHECK_THROWS_WITH(opened(changed), Contains(row.named) && Contains("shard"));
  }
  std::string foreign = whole;
  foreign[TokenShard::kHeaderBytes + 1] = 7;  // an id of 1,792 and more
  CHECK_THROWS_WITH(opened(foreign), Contains("ids below 257"));
}

TEST_CASE("a folder of shards is in the order of its texts, whatever a suffix does to it", "[supernet][data][tokenizers]") {
  const TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::parse(tokenizer_json(), "test");
  std::uint64_t seed = 0;
  for (const char* name : {"book", "book-2", "wiki.txt", "wiki.txt.1"}) {
    const std::string text = text_of(400, ++seed);
    folder.write(std::string("texts/") + name, text);
    folder.write(std::string("shards/") + name, "");
    std::filesystem::remove(folder / (std::string("shards/") + name));
    write_shard(folder / (std::string("shards/") + name + TokenShard::kSuffix), tokenizer, text);
  }
  CHECK(open_tokens(folder / "texts", tokenizer)->sha256() == open_tokens(folder / "shards", tokenizer)->sha256());
}

TEST_CASE("a token shard is no text of bytes", "[supernet][data][tokenizers]") {
  const TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::parse(tokenizer_json(), "test");
  write_shard(folder / "shard", tokenizer, text_of(400, 1));
  CHECK_THROWS_WITH(open_tokens(folder / "shard", Tokenizer::bytes()), Contains("token shard") && Contains("data.tokenizer"));
}

}  // namespace elastiform
