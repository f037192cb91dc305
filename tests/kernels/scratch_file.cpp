#include "kernels/scratch_file.hpp"

#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/arena.hpp"
#include "kernels/errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {

TEST_CASE("memory in a file holds what is written to it, at rest and recalled", "[kernels][memory]") {
  const TemporaryFolder folder;
  ScratchFile file(folder.path(), "test");
  constexpr std::int64_t kFloats = 1 << 18;
  Arena arena(kFloats * 4, file);
  CHECK(&arena.space() == &file);
  const View x = arena.matrix(1, kFloats, DType::float32);
  std::iota(x.row<float>(0), x.row<float>(0) + kFloats, 1.0F);
  file.rest(x.data, kFloats * 4);
  file.rest(x.data + 100, 50);  // no whole page
  file.recall(x.data, kFloats * 4);
  bool intact = true;
  for (std::int64_t i = 0; i < kFloats; ++i) intact = intact && x.row<float>(0)[i] == static_cast<float>(i + 1);
  CHECK(intact);
  file.zero(x.data, 64);
  CHECK(x.row<float>(0)[15] == 0);
  CHECK(x.row<float>(0)[16] == 17);
}

TEST_CASE("a folder without files, and a disk without room, are refused in one line", "[kernels][memory]") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(ScratchFile(folder / "none", "--offload"), Catch::Matchers::Contains("--offload") && Catch::Matchers::Contains("none"));
  ScratchFile file(folder.path(), "--offload");
  CHECK_THROWS_AS(file.allocate(std::int64_t{1} << 60), InputError);
}

TEST_CASE("an arena in a file grows when more is asked of it, and is refused while it is in use", "[kernels][memory]") {
  const TemporaryFolder folder;
  ScratchFile file(folder.path(), "test");
  GrowingArena away(file);
  CHECK(away.of_at_least(0) == nullptr);
  Arena* const small = away.of_at_least(4096);
  REQUIRE(small != nullptr);
  CHECK(small->capacity() == 4096);
  CHECK(away.of_at_least(1024)->capacity() == 4096);  // what it has is enough
  {
    const ArenaScope scope(*small);
    small->matrix(8, 16, DType::float32).row<float>(7)[15] = 1;
    CHECK_THROWS_AS(away.of_at_least(1 << 20), std::logic_error);
  }
  Arena* const large = away.of_at_least(1 << 20);
  CHECK(large->capacity() == 1 << 20);
  const ArenaScope scope(*large);
  const View all = large->matrix(256, 992, DType::float32);
  all.row<float>(255)[991] = 3;
  CHECK(all.row<float>(255)[991] == 3);
}

}  // namespace elastiform
