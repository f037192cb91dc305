#include "supernet/data/text_files.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "kernels/errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

std::string text_of(const TextFiles& text, const TextFiles::File& file) {
  return {reinterpret_cast<const char*>(text.bytes()) + file.begin, static_cast<std::size_t>(file.end - file.begin)};
}

void overwrite_in_place(const std::string& path, std::int64_t at, const std::string& content) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(at).write(content.data(), static_cast<std::streamsize>(content.size()));
  REQUIRE(file.flush());
}

}  // namespace

TEST_CASE("a text of up to 1 GiB outlives its files: overwritten, shortened or gone, it stays as it was", "[supernet][data][hostile]") {
  const TemporaryFolder folder;
  const bool as_folder = GENERATE(false, true);
  const std::string content(3 << 20, 'a'), path = folder.write("text/large", content);
  if (as_folder) folder.write("text/small", "few bytes");
  const TextFiles text(as_folder ? folder / "text" : path);
  REQUIRE(text.files().size() == (as_folder ? 2 : 1));
  const std::string hash = text.sha256();

  overwrite_in_place(path, 0, std::string(content.size(), 'b'));
  CHECK((text_of(text, text.files().front()) == content));  // not the 3 MiB in a failure
  // A page beyond the end of a mapped file raises SIGBUS.
  fs::resize_file(path, 0);
  CHECK((text_of(text, text.files().front()) == content));  // not the 3 MiB in a failure
  fs::remove_all(folder / "text");
  CHECK(text.sha256() == hash);
}

TEST_CASE("a text above 1 GiB is mapped, its small files read, each at its place", "[supernet][data]") {
  const TemporaryFolder folder;
  const std::int64_t size = (std::int64_t{1} << 30) + 5;
  const std::string large = folder.write("b", "first");
  fs::resize_file(large, static_cast<std::uintmax_t>(size));  // sparse: takes neither disk nor, mapped, memory
  overwrite_in_place(large, size - 4, "last");
  folder.write("a", "before");
  folder.write("c", "after");
  const TextFiles text(folder.path());
  REQUIRE(text.files().size() == 3);
  CHECK(text.size() == size + 11);
  CHECK(text_of(text, text.files()[0]) == "before");
  CHECK(text_of(text, text.files()[2]) == "after");
  const TextFiles::File& file = text.files()[1];
  REQUIRE(file.end - file.begin == size);
  const auto* bytes = reinterpret_cast<const char*>(text.bytes());
  CHECK(std::string(bytes + file.begin, 6) == std::string("first\0", 6));
  CHECK(std::string(bytes + file.end - 5, 5) == std::string("\0last", 5));
}

TEST_CASE("files that together claim more than an address space are refused", "[supernet][data][hostile]") {
  const TemporaryFolder folder;
  for (const char* name : {"a", "b", "c", "d", "e"}) {
    std::error_code unsupported;
    fs::resize_file(folder.write(name, "x"), std::uintmax_t{1} << 43, unsupported);  // ext4 allows files of 16 TiB
    if (unsupported) return;
  }
  for (const char* name : {"f", "g", "h", "i"}) fs::resize_file(folder.write(name, "x"), std::uintmax_t{1} << 43);
  CHECK_THROWS_WITH(TextFiles(folder.path()), Catch::Contains("more than 64 TiB"));
}

}  // namespace elastiform
