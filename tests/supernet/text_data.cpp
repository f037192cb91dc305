#include "supernet/data/text_data.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <set>

#include "kernels/errors.hpp"
#include "kernels/ops/loss.hpp"
#include "kernels/random.hpp"
#include "supernet/sha256.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

constexpr std::array<Split, 3> kAll = {Split::train, Split::search, Split::report};

std::string random_text(std::size_t bytes, std::uint64_t seed) {
  RandomStream random(seed, Purpose::test);
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>(random.next_u32());
  return text;
}

DataOptions with(std::vector<int> splits, std::int64_t block) {
  DataOptions options;
  options.splits = std::move(splits);
  options.split_block = block;
  return options;
}

std::string message_of(const std::string& path, const DataOptions& options = {}, int context = 16) {
  return input_error([&] { const TextData data(path, options, context); });
}

/// Owner of every position: 't', 's', 'r', or '.' in a gap. Fails when two splits share a byte.
std::string owners(const TextData& data, std::size_t bytes) {
  std::string owner(bytes, '.');
  for (const Split split : kAll)
    for (const Segment& s : data.segments(split)) {
      REQUIRE((s.begin >= 0 && s.begin + 2 <= s.end && s.end <= static_cast<std::int64_t>(bytes)));
      for (std::int64_t i = s.begin; i < s.end; ++i) {
        REQUIRE(owner[static_cast<std::size_t>(i)] == '.');
        owner[static_cast<std::size_t>(i)] = name_of(split)[0];
      }
    }
  return owner;
}

}  // namespace

TEST_CASE("splits of a file are disjoint, keep their gap and their shares", "[supernet][data]") {
  const auto [bytes, block, context] = GENERATE(table<std::size_t, std::int64_t, int>({{100'000, 1024, 16},
                                                                                       {99'999, 512, 128},
                                                                                       {30'000, 100, 7},
                                                                                       {3 * 64, 64, 1},
                                                                                       {50 * 64 + 1, 64, 31},
                                                                                       {400'000, 16384, 128},
                                                                                       {70'000, 512, 300}}));
  const std::vector<int> shares = GENERATE(std::vector<int>{90, 5, 5}, std::vector<int>{1, 1, 1}, std::vector<int>{60, 30, 10});
  CAPTURE(bytes, block, context, shares);
  const TemporaryFolder folder;
  const std::string text = random_text(bytes, 1), path = folder.write("text", text);
  const TextData data(path, with(shares, block), context);
  const std::string owner = owners(data, bytes);

  const auto blocks = static_cast<std::int64_t>(bytes) / block;
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (const Split split : {Split::search, Split::report}) {
    // Whole blocks on the block grid, one segment each: they are scored one by one.
    for (const Segment& s : data.segments(split)) CHECK((s.begin % block == 0 && s.end - s.begin == block));
    const auto count = static_cast<double>(data.segments(split).size());
    const double wanted = static_cast<double>(blocks) * shares[static_cast<std::size_t>(split)] / sum;
    CHECK(((count > wanted - 1 && count < wanted + 1) || (wanted < 1 && count == 1)));
    CHECK(data.split_tokens(split) == static_cast<std::int64_t>(count) * block);
  }
  // Every byte that is nobody's lies within a context of a held-out block, and no training byte does.
  for (std::size_t i = 0; i < bytes; ++i) {
    if (owner[i] != 't' && owner[i] != '.') continue;
    const std::size_t reach = static_cast<std::size_t>(context), low = i < reach ? 0 : i - reach;
    const bool close = owner.substr(low, i - low + reach + 1).find_first_of("sr") != std::string::npos;
    if (close != (owner[i] == '.')) {
      // A rest of one byte between two gaps is no segment.
      CAPTURE(i, owner[i]);
      CHECK((owner[i] == '.' && (i == 0 || owner[i - 1] == '.') && (i + 1 == bytes || owner[i + 1] == '.')));
    }
  }
  const TextData again(path, with(shares, block), context);
  CHECK(owners(again, bytes) == owner);
  CHECK(data.size() == static_cast<std::int64_t>(bytes));
  CHECK(data.sha256() == sha256_hex(text));
  CHECK(std::equal(text.begin(), text.end(), data.bytes(), [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; }));
  CHECK(data.byte(5) == static_cast<std::uint8_t>(text[5]));
  CHECK_THROWS_AS(data.byte(static_cast<std::int64_t>(bytes)), std::logic_error);
}

TEST_CASE("held-out blocks are spread over the text", "[supernet][data]") {
  const TemporaryFolder folder;
  const TextData data(folder.write("text", random_text(400 * 256, 2)), with({80, 10, 10}, 256), 16);
  for (const Split split : {Split::search, Split::report}) {
    std::array<int, 4> quarters{};
    for (const Segment& s : data.segments(split)) ++quarters[static_cast<std::size_t>(s.begin / (100 * 256))];
    for (const int count : quarters) CHECK((count >= 3 && count <= 20));  // 10 expected; a fixed draw, so never flaky
  }
}

TEST_CASE("the splits of a text of given size are the same for ever", "[supernet][data]") {
  const TemporaryFolder folder;
  const TextData data(folder.write("text", random_text(100 * 64, 2)), with({90, 5, 5}, 64), 16);
  std::vector<std::int64_t> blocks;
  for (const Split split : {Split::search, Split::report})
    for (const Segment& s : data.segments(split)) blocks.push_back(s.begin / 64);
  // Published numbers and stored evaluations name blocks of these splits: a change of the draw makes them lies.
  CHECK(blocks == std::vector<std::int64_t>{17, 18, 19, 66, 91, 8, 26, 67, 85, 98});
}

TEST_CASE("a file of several MiB is the same text", "[supernet][data]") {
  const TemporaryFolder folder;
  const std::string text = random_text((2 << 20) + 77, 3);
  const TextData data(folder.write("text", text), {}, 128);
  CHECK(data.sha256() == sha256_hex(text));
  CHECK(std::equal(text.begin(), text.end(), reinterpret_cast<const char*>(data.bytes())));
  CHECK(data.segments(Split::search).size() == 7);  // of 128 blocks 115.2, 6.4 and 6.4: the largest remainder, of equal ones the first
}

TEST_CASE("a folder is dealt by whole files", "[supernet][data]") {
  const TemporaryFolder folder;
  std::map<std::string, std::string> files;
  for (int i = 0; i < 20; ++i)
    files["part" + std::to_string(i % 3) + "/" + std::to_string(i) + ".txt"] = random_text(200 + 10 * static_cast<std::size_t>(i), 10);
  files["large.txt"] = random_text((1 << 20) + 5, 11);
  for (const auto& [name, content] : files) folder.write("text/" + name, content);
  folder.write("text/.hidden", "hidden text");
  folder.write("text/.git/objects", "hidden text");
  folder.write("text/empty", "");
  std::filesystem::create_symlink(folder / "text/large.txt", folder / "text/link.txt");

  const TextData data(folder / "text", with({80, 10, 10}, 16384), 64);
  std::set<std::string> seen;
  std::size_t bytes = 0;
  for (const Split split : kAll)
    for (const Segment& s : data.segments(split)) {
      const std::string content(reinterpret_cast<const char*>(data.bytes()) + s.begin, static_cast<std::size_t>(s.end - s.begin));
      CHECK(std::any_of(files.begin(), files.end(), [&](const auto& file) { return file.second == content; }));
      CHECK(seen.insert(content).second);
      bytes += content.size();
    }
  CHECK(seen.size() == files.size());
  CHECK(static_cast<std::int64_t>(bytes) == data.size());
  CHECK(data.segments(Split::train).size() == 17);  // of 21 files 16.8, 2.1, 2.1
  CHECK(data.segments(Split::search).size() == 2);

  std::string described;
  for (const auto& [name, content] : files) described += name + '\0' + std::to_string(content.size()) + '\0' + content;
  CHECK(data.sha256() == sha256_hex(described));
  CHECK(TextData((folder / "text") + "/", with({80, 10, 10}, 16384), 64).sha256() == data.sha256());
}

TEST_CASE("every split of a small folder gets a file", "[supernet][data]") {
  const TemporaryFolder folder;
  for (const char* name : {"a", "b", "c"}) folder.write(name, random_text(100, 5));
  const TextData data(folder.path(), with({98, 1, 1}, 16384), 16);
  for (const Split split : kAll) CHECK(data.segments(split).size() == 1);
}

TEST_CASE("unusable texts are refused in one line", "[supernet][data]") {
  const TemporaryFolder folder;
  CHECK(message_of(folder / "missing") == (folder / "missing") + ": no such file or folder");
  CHECK(message_of(folder.write("empty", "")) == (folder / "empty") + ": the file is empty");
  CHECK(message_of("/dev/null") == "/dev/null: neither a file nor a folder");
  CHECK_THAT(message_of(folder.write("short", random_text(1000, 1))),
             Catch::EndsWith("short: expected at least 3 blocks of 16384 bytes, one for each split, found 1000 bytes; use a longer text or "
                             "a smaller data.split_block"));
  std::filesystem::create_directories(folder / "none/.hidden");
  CHECK_THAT(message_of(folder / "none"), Catch::EndsWith("none: the folder holds no text; links, hidden and empty files are left out"));
  folder.write("two/a", "text");
  folder.write("two/b", "text");
  CHECK_THAT(message_of(folder / "two"), Contains("expected a folder of at least 3 files, one for each split, found 2"));
  folder.write("two/c", "text");
  CHECK_THAT(message_of(folder / "two"),
             Contains("expected a train split with a stretch of 17 bytes (context + 1), found none; use longer files"));

  const std::string path = folder.write("text", random_text(10'000, 1));
  CHECK(message_of(path, with({90, 5, 5}, 100)) == kNoError);
  CHECK_THAT(message_of(path, with({1, 1, 1}, 100), 400), Contains("a train split with a stretch of 401 bytes"));
  CHECK(message_of(path, with({90, 10}, 100)) ==
        "data.splits: expected three whole numbers from 1 to 1000000 for train, search and report, found [90, 10]; e.g. [90, 5, 5]");
  CHECK_THAT(message_of(path, with({100, 0, 0}, 100)), Contains("found [100, 0, 0]"));
  CHECK(message_of(path, with({90, 5, 5}, 1)) == "data.split_block: expected at least 2 bytes, found 1");
  CHECK_THAT(message_of(path, with({90, 5, 5}, INT64_MAX)), Contains("expected at least 3 blocks"));
  CHECK(message_of(path, with({90, 5, 5}, 100), 0) == "context: expected at least 1 token, found 0");
  DataOptions options = with({90, 5, 5}, 100);
  options.tokenizer = "byte";
  CHECK(message_of(path, options) ==
        "data.tokenizer: expected bytes, or the place of a tokenizer.json or tokenizer.model, found 'byte', where no file is");
}

TEST_CASE("the names of splits", "[supernet][data]") {
  for (const Split split : kAll) CHECK(parse_split(name_of(split)) == split);
  CHECK_THROWS_WITH(parse_split("test"), Contains("expected one of train, search, report"));
}

TEST_CASE("training batches are windows of train segments, uniform over all starts, functions of seed and step", "[supernet][data]") {
  const TemporaryFolder folder;
  const std::size_t bytes = 40 * 32;
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(random_text(1, i)[0]);
  const TextData data(folder.write("text", text), with({70, 20, 10}, 32), 4);
  const std::int64_t T = GENERATE(4, 3, 9);
  std::vector<int> legal(bytes), drawn(bytes);
  for (const Segment& s : data.segments(Split::train))
    for (std::int64_t i = s.begin; i + T + 1 <= s.end; ++i) legal[static_cast<std::size_t>(i)] = 1;
  const int starts = std::accumulate(legal.begin(), legal.end(), 0);
  std::map<std::string, std::size_t> places;  // windows are told apart by their T + 1 bytes
  for (std::size_t i = 0; i < bytes; ++i)
    if (legal[i]) places[text.substr(i, static_cast<std::size_t>(T) + 1)] = i;
  REQUIRE(static_cast<int>(places.size()) == starts);

  constexpr int kSteps = 500, kSequences = 40;
  for (int step = 0; step < kSteps; ++step) {
    const Batch batch = data.training_batch(7, static_cast<std::uint64_t>(step), kSequences, T);
    REQUIRE((batch.rows() == kSequences * T && batch.inputs.size() == static_cast<std::size_t>(batch.rows()) &&
             batch.targets.size() == batch.inputs.size()));
    for (std::int64_t b = 0; b < kSequences; ++b) {
      std::string window(1, static_cast<char>(batch.inputs[static_cast<std::size_t>(b * T)]));
      for (std::int64_t t = 0; t < T; ++t) {
        const auto i = static_cast<std::size_t>(b * T + t);
        window += static_cast<char>(batch.targets[i]);
        if (t + 1 < T) REQUIRE(batch.targets[i] == batch.inputs[i + 1]);
        REQUIRE((batch.inputs[i] >= 0 && batch.inputs[i] < 256 && batch.targets[i] >= 0 && batch.targets[i] < 256));
      }
      const auto place = places.find(window);
      REQUIRE(place != places.end());
      ++drawn[place->second];
    }
  }
  // Chi-square over all legal starts: expectation `starts`, deviation sqrt(2·starts); the draw is fixed.
  const double expected = static_cast<double>(kSteps) * kSequences / starts;
  double chi = 0;
  for (std::size_t i = 0; i < bytes; ++i)
    if (legal[i]) chi += (drawn[i] - expected) * (drawn[i] - expected) / expected;
  CHECK(std::abs(chi - starts) < 4 * std::sqrt(2.0 * starts));

  CHECK(data.training_batch(7, 3, 2, T).inputs == data.training_batch(7, 3, 2, T).inputs);
  CHECK(data.training_batch(7, 3, 9, T).inputs != data.training_batch(7, 4, 9, T).inputs);
  CHECK(data.training_batch(7, 3, 9, T).inputs != data.training_batch(8, 3, 9, T).inputs);
  // A share of a batch is the batch's beginning.
  const Batch whole = data.training_batch(7, 3, 9, T), part = data.training_batch(7, 3, 4, T);
  CHECK(std::equal(part.inputs.begin(), part.inputs.end(), whole.inputs.begin()));
  // Micro-batches are its parts, and each is drawn without the others.
  Batch middle;
  data.training_batch(7, 3, 3, T, middle, 4);
  CHECK(middle.inputs == std::vector<std::int32_t>(whole.inputs.begin() + 4 * T, whole.inputs.begin() + 7 * T));
  CHECK_THROWS_AS(data.training_batch(7, 3, 9, 100'000), InputError);
}

TEST_CASE("scoring counts every byte of a segment but the first exactly once", "[supernet][data]") {
  const TemporaryFolder folder;
  const std::string text = random_text(20'000, 9);
  const TextData data(folder.write("text", text), with({60, 20, 20}, 333), 16);
  const auto [T, stride] = GENERATE(
      table<std::int64_t, std::int64_t>({{16, 16}, {16, 8}, {16, 1}, {7, 3}, {13, 11}, {1, 1}, {332, 332}, {400, 200}, {331, 331}}));
  const Split split = GENERATE(Split::train, Split::search, Split::report);
  const std::int64_t limit = GENERATE(0, 2);
  CAPTURE(T, stride, name_of(split), limit);
  const std::vector<Window> windows = data.scoring_windows(split, T, stride, limit);
  std::vector<int> counted(text.size());
  std::int64_t previous = -1;
  for (std::int64_t first = 0; first < static_cast<std::int64_t>(windows.size()); first += 5) {
    const std::int64_t count = std::min<std::int64_t>(5, static_cast<std::int64_t>(windows.size()) - first);
    const Batch batch = data.scoring_batch(windows, first, count, T);
    REQUIRE(batch.rows() == static_cast<std::int64_t>(batch.inputs.size()));
    for (std::int64_t b = 0; b < count; ++b) {
      const Window& w = windows[static_cast<std::size_t>(first + b)];
      const Segment segment = data.segments(split)[static_cast<std::size_t>(w.segment)];
      REQUIRE((w.begin >= segment.begin && w.begin + w.length < segment.end && w.length <= T && w.skip < w.length));
      REQUIRE((w.begin - segment.begin) % stride == 0);
      if (w.segment != previous) REQUIRE((w.skip == 0 && w.begin == segment.begin));
      else REQUIRE(w.skip == T - stride);
      previous = w.segment;
      for (std::int64_t t = 0; t < T; ++t) {
        const auto i = static_cast<std::size_t>(b * T + t), place = static_cast<std::size_t>(w.begin + t);
        if (t < w.length) REQUIRE(batch.inputs[i] == static_cast<std::uint8_t>(text[place]));
        else REQUIRE(batch.inputs[i] == 0);
        if (batch.targets[i] == kIgnoredTarget) continue;
        REQUIRE(batch.targets[i] == static_cast<std::uint8_t>(text[place + 1]));
        ++counted[place + 1];
      }
    }
  }
  std::vector<int> wanted(text.size());
  std::int64_t left = limit;
  for (const Segment& s : data.segments(split)) {
    if (limit > 0 && left-- == 0) break;
    std::fill(wanted.begin() + s.begin + 1, wanted.begin() + s.end, 1);
  }
  CHECK(counted == wanted);
}

TEST_CASE("scoring strides beyond the window would skip bytes and are refused", "[supernet][data]") {
  const TemporaryFolder folder;
  const TextData data(folder.write("text", random_text(2000, 1)), with({60, 20, 20}, 64), 8);
  CHECK_THROWS_WITH(data.scoring_windows(Split::search, 8, 9, 0), "stride: expected 1 to the window's 8 tokens, found 9");
  CHECK_THROWS_AS(data.scoring_windows(Split::search, 8, 0, 0), InputError);
  CHECK_THROWS_AS(data.scoring_batch({}, 0, 1, 8), std::logic_error);
  CHECK(data.scoring_batch({}, 0, 0, 8).rows() == 0);
}

}  // namespace elastiform
