#include "supernet/storage/durable_file.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <system_error>

#include "kernels/errors.hpp"
#include "supernet/storage/new_file.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/killed_child.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

std::size_t entries(const std::string& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("write_durably replaces a file whole and leaves nothing beside it", "[storage]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  write_durably(path, "old");
  CHECK(content_of(path) == "old");
  const std::string large(300000, 'n');
  write_durably(path, large);
  CHECK(content_of(path) == large);
  write_durably(path, "");
  CHECK(content_of(path).empty());
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("write_durably names the path when it fails, and keeps the old file", "[storage]") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(write_durably(folder / "none/file", "x"), Catch::Contains("none/file"));
  CHECK_THROWS_AS(write_durably(folder / "none/file", "x"), std::system_error);
  const std::string path = folder.write("file", "old");
  const auto failing = [&] {
    write_durably(path, [](const std::string& temporary) {
      std::ofstream(temporary) << "half";
      throw std::runtime_error("the library failed");
    });
  };
  CHECK_THROWS_WITH(failing(), "the library failed");
  CHECK(content_of(path) == "old");
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("write_durably killed at every point leaves the old file or the new one", "[storage][kill]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file", old_text(5000, 'o'), new_text(7000, 'n');
  int old_seen = 0, new_seen = 0;
  const int points = kill_at_every_point([&] { write_durably(path, old_text); },
                                         [&](const auto& acknowledge) {
                                           write_durably(path, new_text);
                                           acknowledge();
                                         },
                                         [&](int n, const ChildEnd& end) {
                                           CAPTURE(n);
                                           const std::string found = content_of(path);
                                           CHECK((found == old_text || found == new_text));
                                           if (end.acknowledged > 0) CHECK(found == new_text);
                                           ++(found == old_text ? old_seen : new_seen);
                                         });
  CHECK(points >= 5);
  CHECK(old_seen > 0);  // otherwise the points stand at the wrong places
  CHECK(new_seen > 1);
  write_durably(path, "after");
  CHECK(entries(folder.path()) == 1);  // what the killed writers left is gone
}

TEST_CASE("create_folder_durably makes a folder whole, and never replaces one", "[storage]") {
  const TemporaryFolder folder;
  const auto fill = [](const std::string& temporary) {
    std::ofstream(temporary + "/a") << "1";
    fs::create_directory(temporary + "/sub");
    std::ofstream(temporary + "/sub/b") << "2";
  };
  create_folder_durably(folder / "made/", fill);
  CHECK(content_of(folder / "made/sub/b") == "2");
  CHECK_THROWS_AS(create_folder_durably(folder / "made", fill), InputError);
  const auto failing = [](const std::string& temporary) {
    std::ofstream(temporary + "/a") << "1";
    throw std::runtime_error("no");
  };
  CHECK_THROWS_WITH(create_folder_durably(folder / "other", failing), "no");
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("create_folder_durably killed at every point leaves no folder or a whole one", "[storage][kill]") {
  const TemporaryFolder folder;
  const std::string path = folder / "made";
  const int points = kill_at_every_point([&] { fs::remove_all(path); },
                                         [&](const auto& acknowledge) {
                                           create_folder_durably(path, [](const std::string& temporary) {
                                             write_durably(temporary + "/a", "1");
                                             write_durably(temporary + "/b", "2");
                                           });
                                           acknowledge();
                                         },
                                         [&](int n, const ChildEnd& end) {
                                           CAPTURE(n);
                                           if (end.acknowledged > 0) CHECK(fs::exists(path));
                                           if (fs::exists(path)) CHECK(content_of(path + "/a") + content_of(path + "/b") == "12");
                                         });
  CHECK(points >= 10);
}

TEST_CASE("FolderLock admits one writer, names the other, and ends with its process", "[storage]") {
  const TemporaryFolder folder;
  {
    const FolderLock lock(folder.path());
    CHECK_THROWS_WITH(FolderLock(folder.path()), Catch::Contains("process " + std::to_string(::getpid())) && Catch::Contains(" since "));
    CHECK_NOTHROW(FolderLock(folder.path(), "another"));
  }
  CHECK_NOTHROW(FolderLock(folder.path()));
  run_killed_at(0, [&](const auto&) {
    const FolderLock lock(folder.path());
    ::_exit(0);  // dies holding it
  });
  CHECK_NOTHROW(FolderLock(folder.path()));
  CHECK_THROWS_AS(FolderLock(folder / "none"), InputError);
}

TEST_CASE("ELASTIFORM_FAIL_POINT refuses what is no number", "[storage]") {
  const TemporaryFolder folder;
  const ChildEnd end = run_killed_at(0, [&](const auto& acknowledge) {
    ::setenv("ELASTIFORM_FAIL_POINT", "soon", 1);
    try {
      write_durably(folder / "file", "x");
    } catch (const InputError&) {
      acknowledge();
    }
  });
  CHECK(end.acknowledged == 1);
}

TEST_CASE("a new file takes no place that was taken while it was written", "[storage]") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  const auto put = [](const std::string& to, const char* text) { std::ofstream(to) << text; };
  CHECK_THROWS_AS(create_file_durably(path,
                                      [&](const std::string& beside) {
                                        put(beside, "ours");
                                        put(path, "another's");
                                      }),
                  InputError);
  CHECK(content_of(path) == "another's");
  CHECK(entries(folder.path()) == 1);
  fs::remove(path);
  create_file_durably(path, [&](const std::string& beside) { put(beside, "ours"); });
  CHECK(content_of(path) == "ours");
  CHECK(entries(folder.path()) == 1);
}

}  // namespace elastiform
