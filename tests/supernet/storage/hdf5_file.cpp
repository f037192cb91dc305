#include "supernet/storage/hdf5_file.hpp"

#include <hdf5.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>

#include "kernels/errors.hpp"
#include "supernet/storage/user_block.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/killed_child.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kRare = 0x1357;  // a length whose bytes stand nowhere else in the sample

std::vector<float> ramp(std::size_t size) {
  std::vector<float> values(size);
  std::iota(values.begin(), values.end(), 0.5f);
  return values;
}

/// A file with one object of every kind.
void write_sample(const std::string& path, double seconds = 1.5, const std::string& text = "größer") {
  Hdf5Writer file(path, "results");
  file.attribute("/", "text", text);
  file.attribute("/", "empty", "");
  file.attribute("/", "version", std::int64_t{3});
  file.attribute("/group/inner", "seconds", seconds);
  file.dataset("/group/floats", std::span<const float>(ramp(12)), {3, 4});
  file.dataset("/doubles", std::span<const double>(std::vector<double>{1e300, -0.0, NAN}));
  file.dataset("/none", std::span<const double>());
  file.dataset("/integers", std::span<const std::int64_t>(std::vector<std::int64_t>{INT64_MIN, 7}));
  file.dataset("/bytes", std::span<const std::uint8_t>(std::vector<std::uint8_t>(kRare, 9)));
  file.dataset("/texts", std::vector<std::string>{"", "ä", std::string(70000, 't')});
  const auto padded = ramp(40);
  file.matrix("/matrix", view_of(padded.data(), 4, 7, 10));
  ColumnTable table;
  table.add("id", ColumnTable::Integers{1, 2, -3});
  table.add("loss", ColumnTable::Reals{0.25, NAN, 2});
  table.add("subnet", ColumnTable::Texts{"e64:h2f128", "", "x"});
  table.add("seconds", ColumnTable::Reals{seconds, 2 * seconds, 0});
  file.table("/table", table);
  const auto row = ramp(700);
  file.ragged("/ragged", {std::span(row).first(3), std::span<const float>(), std::span(row)});
  file.close();
}

/// The message with which a file is refused; fails the test when it is not, or not by InputError.
std::string refusal(const std::string& path, std::string_view kind = "results") {
  const std::string line = input_error([&] { const Hdf5Reader file(path, kind); });
  if (line == kNoError) FAIL("accepted " << path);
  return line;
}

}  // namespace

TEST_CASE("HDF5 files give back what was written", "[storage]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  const Hdf5Reader file(path, "");
  CHECK(file.kind() == "results");
  CHECK(file.text_attribute("/", "text") == "größer");
  CHECK(file.text_attribute("/", "empty").empty());
  CHECK(file.integer_attribute("/", "version") == 3);
  CHECK(file.real_attribute("/group/inner", "seconds") == 1.5);
  CHECK(file.has_attribute("/", "text"));
  CHECK_FALSE(file.has_attribute("/", "other"));
  CHECK(file.has("/group/floats"));
  CHECK_FALSE(file.has("/none/at/all"));
  CHECK(file.children("/group") == std::vector<std::string>{"floats", "inner"});
  CHECK(file.shape("/group/floats") == std::vector<std::uint64_t>{3, 4});
  CHECK(file.floats("/group/floats") == ramp(12));
  const auto doubles = file.doubles("/doubles");
  CHECK(doubles[0] == 1e300);
  CHECK(std::signbit(doubles[1]));
  CHECK(std::isnan(doubles[2]));
  CHECK(file.doubles("/none").empty());
  CHECK(file.integers("/integers") == std::vector<std::int64_t>{INT64_MIN, 7});
  CHECK(file.bytes("/bytes") == std::vector<std::uint8_t>(kRare, 9));
  CHECK(file.strings("/texts") == std::vector<std::string>{"", "ä", std::string(70000, 't')});
  const ColumnTable table = file.table("/table");
  CHECK(table.integers("id") == ColumnTable::Integers{1, 2, -3});
  CHECK(table.reals("loss")[2] == 2);
  CHECK(table.texts("subnet") == ColumnTable::Texts{"e64:h2f128", "", "x"});
  CHECK_THROWS_AS(table.reals("id"), InputError);
  CHECK_THROWS_AS(table.reals("accuracy"), InputError);
}

TEST_CASE("HDF5 matrices keep and leave alone what lies between rows", "[storage]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  const Hdf5Reader file(path, "results");
  std::vector<float> read(4 * 9, -1);
  file.matrix("/matrix", view_of(read.data(), 4, 7, 9));
  for (std::size_t r = 0; r < 4; ++r)
    for (std::size_t c = 0; c < 9; ++c) CHECK(read[9 * r + c] == (c < 7 ? 0.5f + static_cast<float>(10 * r + c) : -1));
  CHECK_THROWS_AS(file.matrix("/matrix", view_of(read.data(), 4, 8, 9)), InputError);
  std::vector<double> wide(28);
  CHECK_THROWS_AS(file.matrix("/matrix", view_of(wide.data(), 4, 7, 7)), InputError);
}

TEST_CASE("ragged rows take only their own space and read as NaN beyond it", "[storage]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  const Hdf5Reader file(path, "results");
  CHECK(file.shape("/ragged") == std::vector<std::uint64_t>{3, 700});
  const auto rows = file.ragged("/ragged", std::vector<std::int64_t>{3, 0, 700});
  CHECK(rows[0] == ramp(3));
  CHECK(rows[1].empty());
  CHECK(rows[2] == ramp(700));
  CHECK(std::isnan(file.ragged("/ragged", std::vector<std::int64_t>{4, 0, 1})[0][3]));
  for (const auto& counts : {std::vector<std::int64_t>{3, 0}, {3, 0, 701}, {3, 0, -1}})
    CHECK_THROWS_AS(file.ragged("/ragged", counts), InputError);

  const auto wide = ramp(100000);
  Hdf5Writer sparse(folder / "sparse.h5", "results");
  std::vector<std::span<const float>> sparse_rows(64, std::span(wide).first(1));
  sparse_rows[0] = wide;
  sparse.ragged("/ragged", sparse_rows);
  sparse.close();
  CHECK(fs::file_size(folder / "sparse.h5") < 2 * 4 * wide.size());  // dense it would be 64 times the widest row
}

TEST_CASE("equal content gives equal bytes, and other content another digest", "[storage]") {
  const TemporaryFolder folder;
  write_sample(folder / "a.h5");
  write_sample(folder / "b.h5");
  CHECK(content_of(folder / "a.h5") == content_of(folder / "b.h5"));
  const std::string digest = Hdf5Reader(folder / "a.h5", "").digest({});
  CHECK(digest == Hdf5Reader(folder / "b.h5", "").digest({}));
  CHECK(digest.size() == 64);

  write_sample(folder / "slow.h5", 99);
  const Hdf5Reader slow(folder / "slow.h5", ""), fast(folder / "a.h5", "");
  const std::vector<std::string> timings = {"/group/inner@seconds", "/table:seconds"};
  CHECK(slow.digest({}) != digest);
  CHECK(slow.digest({timings[0]}) != fast.digest({timings[0]}));  // the column still differs
  CHECK(slow.digest(timings) == fast.digest(timings));
  CHECK(fast.digest({"/ragged"}) != digest);
  write_sample(folder / "text.h5", 1.5, "grösser");
  CHECK(Hdf5Reader(folder / "text.h5", "").digest(timings) != fast.digest(timings));
}

TEST_CASE("no object keeps the time it was made, which equal bytes could not survive", "[storage]") {
  const TemporaryFolder folder;
  write_sample(folder / "a.h5");
  const hid_t file = H5Fopen((folder / "a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  REQUIRE(file >= 0);
  for (const char* object : {"/", "/group", "/group/inner", "/group/floats", "/texts", "/table", "/ragged", "/matrix"}) {
    H5O_info_t info{};
    CAPTURE(object);
    REQUIRE(H5Oget_info_by_name1(file, object, &info, H5P_DEFAULT) >= 0);
    CHECK(info.atime + info.mtime + info.ctime + info.btime == 0);
  }
  H5Fclose(file);
}

TEST_CASE("listing names every object and attribute once", "[storage]") {
  const TemporaryFolder folder;
  write_sample(folder / "a.h5");
  const auto lines = Hdf5Reader(folder / "a.h5", "").listing();
  CHECK(lines.size() == 13);
  CHECK(std::count(lines.begin(), lines.end(), "/group/floats float32 [3, 4]") == 1);
  CHECK(std::count(lines.begin(), lines.end(), "/table table of 3 rows: id loss subnet seconds") == 1);
  CHECK(std::count(lines.begin(), lines.end(), "/@version = 3") == 1);
}

TEST_CASE("a writer that is not closed, or killed anywhere, leaves the old file", "[storage][kill]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  { Hdf5Writer dropped(path, "results"); }
  CHECK_NOTHROW(Hdf5Reader(path, "results"));
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
  const int points = kill_at_every_point([&] { write_sample(path); },
                                         [&](const auto& acknowledge) {
                                           write_sample(path, 7);
                                           acknowledge();
                                         },
                                         [&](int n, const ChildEnd& end) {
                                           CAPTURE(n);
                                           const double seconds = Hdf5Reader(path, "results").real_attribute("/group/inner", "seconds");
                                           CHECK((seconds == 1.5 || seconds == 7));
                                           if (end.acknowledged > 0) CHECK(seconds == 7);
                                         });
  CHECK(points >= 5);
  CHECK_THROWS_AS(Hdf5Writer(folder / "none/file.h5", "results"), std::system_error);
}

TEST_CASE("truncated files and files with a tail are refused at every length", "[storage][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  const std::string whole = content_of(path);
  for (std::size_t i = 0; i < 64; ++i) {
    const std::size_t length = i < 16 ? i * 34 : whole.size() * i / 64;
    overwrite(path, whole.substr(0, length));
    CAPTURE(length);
    CHECK_THAT(refusal(path), Catch::Contains(length == 0 ? "an empty file" : "a truncated file"));
  }
  overwrite(path, whole + "x");
  CHECK_THAT(refusal(path), Catch::Contains("something after its end"));
}

TEST_CASE("a flipped byte anywhere is refused", "[storage][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  const std::string whole = content_of(path);
  for (std::size_t at = 0; at < whole.size(); at += at < kUserBlockBytes ? 1 : 911) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x04);
    overwrite(path, damaged);
    CAPTURE(at);
    CHECK_FALSE(refusal(path, "").empty());
  }
}

TEST_CASE("foreign, newer, wrong and unreadable files end in one line each", "[storage][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  const std::string whole = content_of(path);
  CHECK_THAT(refusal(path, "supernet"), Catch::Contains("an Elastiform supernet file") && Catch::Contains("a results file"));
  CHECK_THAT(refusal(folder.path()), Catch::Contains("a folder"));
  CHECK_THAT(refusal(folder / "none"), Catch::Contains("No such file"));
  CHECK_THAT(refusal("/dev/null"), Catch::Contains("no regular file"));
  CHECK_THAT(refusal(folder.write("text", "hello\n")), Catch::Contains("another kind of file"));
  CHECK_THAT(refusal(folder.write("foreign.h5", whole.substr(kUserBlockBytes))), Catch::Contains("HDF5 file of another program"));
  std::string newer = whole;
  newer[newer.find('\n') - 1] = '2';
  CHECK_THAT(refusal(folder.write("newer.h5", newer)), Catch::Contains("format version 1") && Catch::Contains("found 2"));
  if (::geteuid() == 0) {
    REQUIRE(::seteuid(65534) == 0);  // root may read everything; the temporary folder is ours alone
    CHECK_THAT(refusal(path), Catch::Contains("Permission denied"));
    REQUIRE(::seteuid(0) == 0);
  } else {
    fs::permissions(path, fs::perms::none);
    CHECK_THAT(refusal(path), Catch::Contains("Permission denied"));
  }
}

TEST_CASE("a file that lies about a size, under a right checksum, allocates nothing", "[storage][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  std::string bytes = content_of(path);
  const std::int64_t huge = std::int64_t{1} << 42;
  std::int64_t changed = 0;
  for (std::size_t at = 0; at + 8 <= bytes.size(); at += 1) {
    if (std::memcmp(&bytes[at], &kRare, 8) != 0) continue;
    std::memcpy(&bytes[at], &huge, 8);
    ++changed;
  }
  REQUIRE(changed > 0);
  overwrite(path, bytes);
  seal_user_block(path, "results");
  const Hdf5Reader file(path, "results");
  CHECK_THROWS_WITH(file.shape("/bytes"), Catch::Contains("a size that fits the file"));
  CHECK_THROWS_WITH(file.bytes("/bytes"), Catch::Contains("a size that fits the file"));
  CHECK_THROWS_AS(file.digest({}), InputError);
  CHECK(file.floats("/group/floats") == ramp(12));
}

TEST_CASE("asking for what a file does not have names path and object", "[storage]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file.h5";
  write_sample(path);
  const Hdf5Reader file(path, "results");
  CHECK_THROWS_WITH(file.floats("/other"), Catch::Contains(path + ": /other"));
  CHECK_THROWS_AS(file.floats("/doubles"), InputError);
  CHECK_THROWS_AS(file.integers("/texts"), InputError);
  CHECK_THROWS_AS(file.strings("/integers"), InputError);
  CHECK_THROWS_AS(file.table("/integers"), InputError);
  CHECK_THROWS_AS(file.ragged("/doubles", std::vector<std::int64_t>{1}), InputError);
  CHECK_THROWS_AS(file.children("/none"), InputError);
  CHECK_THROWS_AS(file.children("/other"), InputError);
  CHECK_THROWS_AS(file.text_attribute("/", "version"), InputError);
  CHECK_THROWS_AS(file.integer_attribute("/", "text"), InputError);
  CHECK_THROWS_AS(file.real_attribute("/", "other"), InputError);
}

}  // namespace elastiform
