#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/errors.hpp"
#include "supernet/storage/durable_file.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/killed_child.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> records_of(const std::string& path) {
  std::vector<std::string> records;
  Journal::read(path, [&](std::uint64_t, std::string_view record) { records.emplace_back(record); });
  return records;
}

std::uint64_t last_sequence(const std::string& path) {
  std::uint64_t last = 0;
  Journal::read(path, [&](std::uint64_t sequence, std::string_view) { last = sequence; });
  return last;
}

std::string record_of(int i) { return "record " + std::to_string(i) + std::string(static_cast<std::size_t>(37 * i % 101), '.'); }

}  // namespace

TEST_CASE("a journal gives back what was committed, in order, and goes on after reopening", "[storage]") {
  const TemporaryFolder folder;
  const std::string path = folder / "journal";
  CHECK(records_of(path).empty());  // none there: none to read
  {
    Journal journal(path);
    journal.append("one");
    journal.append("");
    journal.commit();
    journal.append("never committed");
  }
  CHECK(records_of(path) == std::vector<std::string>{"one", ""});
  Journal journal(path);
  CHECK(journal.bytes() == 2 * 16 + 3);
  journal.append("three");
  journal.commit();
  CHECK(records_of(path) == std::vector<std::string>{"one", "", "three"});
  CHECK(last_sequence(path) == 2);
}

TEST_CASE("numbers of records go on after clear", "[storage]") {
  const TemporaryFolder folder;
  const std::string path = folder / "journal";
  {
    Journal journal(path);
    journal.append("one");
    journal.append("two");
    journal.commit();
    journal.clear();
    CHECK(journal.bytes() == 0);
    CHECK(records_of(path).empty());
    journal.append("three");
    journal.commit();
    CHECK(last_sequence(path) == 2);
    journal.clear();
  }
  Journal again(path);
  again.append("four");
  again.commit();
  CHECK(last_sequence(path) == 3);
}

TEST_CASE("a journal torn at any length keeps its whole records, for readers and writers", "[storage]") {
  const TemporaryFolder folder;
  const std::string path = folder / "journal";
  std::vector<std::size_t> ends;
  {
    Journal journal(path);
    for (int i = 0; i < 5; ++i) {
      journal.append(record_of(i));
      journal.commit();
      ends.push_back(24 + journal.bytes());
    }
  }
  const std::string whole = content_of(path);
  REQUIRE(whole.size() == ends.back());
  for (std::size_t length = 24; length <= whole.size(); ++length) {
    overwrite(path, whole.substr(0, length));
    const auto kept = static_cast<std::size_t>(std::count_if(ends.begin(), ends.end(), [&](std::size_t end) { return end <= length; }));
    if (records_of(path).size() != kept) FAIL("torn at " << length);
    if (content_of(path).size() != length) FAIL("reading changed a file torn at " << length);
    if (length % 7 != 0) continue;  // each writer syncs twice
    Journal journal(path);
    journal.append("next");
    journal.commit();
    const auto records = records_of(path);
    if (records.size() != kept + 1 || records.back() != "next") FAIL("writing after a tear at " << length);
  }
}

TEST_CASE("a flipped byte never changes a record: the last is cut off, damage before it is refused and kept", "[storage]") {
  const TemporaryFolder folder;
  const std::string path = folder / "journal";
  std::vector<std::string> written;
  std::vector<std::size_t> begins = {24};
  {
    Journal journal(path);
    for (int i = 0; i < 3; ++i) {
      journal.append(written.emplace_back(record_of(i)));
      begins.push_back(begins.back() + 16 + written.back().size());
    }
    journal.commit();
  }
  const std::string whole = content_of(path);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    overwrite(path, damaged);
    if (at < 24) {
      CHECK_THROWS_AS(records_of(path), InputError);
    } else if (at < begins[2]) {
      const std::string byte = "byte " + std::to_string(begins[at < begins[1] ? 0 : 1]) + ",";
      CHECK_THROWS_WITH(records_of(path), Catch::Contains(path) && Catch::Contains(byte) && Catch::Contains("truncate"));
      CHECK_THROWS_AS(Journal(path), InputError);
      if (content_of(path) != damaged) FAIL("opening changed a file damaged at " << at);
    } else if (records_of(path) != std::vector<std::string>{written[0], written[1]}) {
      FAIL("byte " << at);
    }
  }
}

TEST_CASE("damage of any length before a whole record is refused, and the remedy keeps what stands before it", "[storage]") {
  const TemporaryFolder folder;
  const std::string path = folder / "journal";
  std::vector<std::size_t> ends = {24};
  {
    Journal journal(path);
    for (int i = 0; i < 4; ++i) {
      journal.append(record_of(i));
      journal.commit();
      ends.push_back(24 + journal.bytes());
    }
  }
  const std::string whole = content_of(path);
  const auto zeros = std::string(whole).replace(ends[1], ends[3] - ends[1], ends[3] - ends[1], '\0');
  const auto missing = std::string(whole).erase(ends[1], ends[2] - ends[1]);
  const auto extra = std::string(whole).insert(ends[1], "x");
  for (const std::string& damaged : {zeros, missing, extra, zeros + "torn"}) {
    overwrite(path, damaged);
    CHECK_THROWS_AS(records_of(path), InputError);
    CHECK_THROWS_AS(Journal(path), InputError);
    CHECK(content_of(path) == damaged);
    fs::resize_file(path, ends[1]);
    Journal journal(path);
    journal.append("next");
    journal.commit();
    CHECK(records_of(path) == std::vector<std::string>{record_of(0), "next"});
  }
  // Zeros to the end, as a file system may leave after a crash, are a torn tail.
  overwrite(path, whole.substr(0, ends[2]) + std::string(5000, '\0'));
  CHECK(records_of(path).size() == 2);
  Journal(path).append("");
  CHECK(content_of(path).size() == ends[2]);
}

TEST_CASE("a journal made of heads does not cost the square of its size", "[storage][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder / "journal";
  Journal(path).commit();
  std::string bytes = content_of(path);
  const std::uint32_t head[4] = {1, 0, 8 << 20, 7};  // number 1, 8 MiB long, with a wrong checksum
  for (int i = 0; i < (16 << 20) / 16; ++i) bytes.append(reinterpret_cast<const char*>(head), sizeof head);
  overwrite(path, bytes);
  CHECK_THROWS_AS(records_of(path), InputError);  // 2^19 checksums of 8 MiB would take hours
}

TEST_CASE("what is no journal is refused and not changed", "[storage]") {
  const TemporaryFolder folder;
  for (const std::string& content : {std::string(), std::string("short"), std::string(100, 'x')}) {
    const std::string path = folder.write("other", content);
    CHECK_THROWS_AS(Journal(path), InputError);
    CHECK_THROWS_AS(records_of(path), InputError);
    CHECK(content_of(path) == content);
  }
  CHECK_THROWS_AS(records_of(folder.path()), InputError);
  const std::string pipe = folder / "pipe", sparse = folder / "sparse";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_AS(records_of(pipe), InputError);
  CHECK_THROWS_AS(Journal(pipe), InputError);
  Journal(sparse).commit();
  fs::resize_file(sparse, std::uintmax_t{1} << 42);
  CHECK_THROWS_AS(records_of(sparse), InputError);
}

TEST_CASE("a journal killed at every point of append, commit and clear loses nothing that was committed", "[storage][kill]") {
  const TemporaryFolder folder;
  const std::string path = folder / "journal";
  const int points = kill_at_every_point([&] { fs::remove(path); },
                                         [&](const auto& acknowledge) {
                                           Journal journal(path);
                                           for (int i = 0; i < 3; ++i) {
                                             journal.append(record_of(2 * i));
                                             journal.append(record_of(2 * i + 1));
                                             journal.commit();
                                             acknowledge();
                                           }
                                         },
                                         [&](int n, const ChildEnd& end) {
                                           CAPTURE(n, end.acknowledged);
                                           const auto records = records_of(path);
                                           CHECK(records.size() >= 2 * static_cast<std::size_t>(end.acknowledged));
                                           CHECK(records.size() <= 2 * static_cast<std::size_t>(end.acknowledged) + 2);
                                           for (std::size_t i = 0; i < records.size(); ++i)
                                             CHECK(records[i] == record_of(static_cast<int>(i)));
                                           Journal journal(path);
                                           journal.append("more");
                                           journal.commit();
                                           CHECK(records_of(path).size() == records.size() + 1);
                                         });
  CHECK(points >= 15);

  const int clear_points = kill_at_every_point(
      [&] {
        fs::remove(path);
        Journal journal(path);
        journal.append("old");
        journal.commit();
      },
      [&](const auto& acknowledge) {
        Journal(path).clear();
        acknowledge();
      },
      [&](int n, const ChildEnd& end) {
        CAPTURE(n);
        const auto records = records_of(path);
        CHECK((records.empty() || records == std::vector<std::string>{"old"}));
        if (end.acknowledged > 0) CHECK(records.empty());
        Journal journal(path);
        journal.append("new");
        journal.commit();
        CHECK(last_sequence(path) == 1);  // 0 was "old", whether it is still there or not
      });
  CHECK(clear_points >= 4);
}

}  // namespace elastiform
