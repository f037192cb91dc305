// Who may write to a store, and who waits.
#include <future>
#include <optional>

#include "search/result_store.hpp"
#include "supernet/storage/durable_file.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

using namespace std::chrono_literals;
using Mode = ResultStore::Mode;

/// Whether a writer opens the store, after so much patience.
bool writes(const TemporaryFolder& folder, std::chrono::milliseconds patience) {
  try {
    ResultStore(folder.path(), Mode::write, "0123456789abcdef0123456789abcdef", "recipe = 1\n", patience);
  } catch (const FolderLocked& locked) {
    CHECK_THAT(locked.what(), Catch::Contains("no other writer") && Catch::Contains("process"));
    return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a store has one writer, and any number of readers meanwhile", "[search][store]") {
  const TemporaryFolder folder;
  std::optional<ResultStore> writer;
  writer.emplace(folder.path(), Mode::write, "0123456789abcdef0123456789abcdef", "recipe = 1\n");
  CHECK_FALSE(writes(folder, 0ms));
  CHECK_FALSE(writes(folder, 30ms));
  CHECK_NOTHROW(ResultStore(folder.path(), Mode::read, "0123456789abcdef0123456789abcdef", "recipe = 1\n"));
  writer.reset();
  CHECK(writes(folder, 0ms));
}

TEST_CASE("a writer waits for one that has the store for a moment", "[search][store]") {
  const TemporaryFolder folder;
  std::optional<ResultStore> first;
  first.emplace(folder.path(), Mode::write, "0123456789abcdef0123456789abcdef", "recipe = 1\n");
  std::promise<bool> at_once;
  // That the lock is held is seen without patience: from then on only waiting helps.
  auto next = std::async(std::launch::async, [&] {
    at_once.set_value(writes(folder, 0ms));
    return writes(folder, 1h);
  });
  CHECK_FALSE(at_once.get_future().get());
  first.reset();
  CHECK(next.get());
}

}  // namespace elastiform
