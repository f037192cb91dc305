#include <filesystem>

#include "tests/experiments/program.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
namespace fs = std::filesystem;

TEST_CASE("a lost supernet.h5 is replaced by the newest undamaged checkpoint, not by step 0", "[experiments][checkpoints]") {
  const TemporaryFolder folder;
  const auto run = edited_run(folder, "evaluations = 6", "evaluations = 6");
  const auto whole = content_of(run + "/supernet.h5"), log = content_of(run + "/training.jsonl");
  fs::remove(run + "/supernet.h5");
  SECTION("the last one") {
    const auto resumed = run_program_in(folder.path(), words("train --resume runs/edited"));
    INFO(resumed.err);
    CHECK(resumed.status == 0);
    CHECK_THAT(resumed.out, Contains("runs/edited/checkpoints/step-000060.h5 takes its place") && Contains("goes on at step 60 of 60"));
    CHECK((content_of(run + "/training.jsonl") == log));
  }
  SECTION("the one before, when the last is damaged: what is missing is trained again, with the same bits") {
    auto damaged = content_of(run + "/checkpoints/step-000060.h5");
    damaged[damaged.size() / 2] ^= 1;
    folder.write("runs/edited/checkpoints/step-000060.h5", damaged);
    const auto resumed = run_program_in(folder.path(), words("train --resume runs/edited"));
    INFO(resumed.err);
    CHECK(resumed.status == 0);
    CHECK_THAT(resumed.out, Contains("step-000040.h5 takes its place") && Contains("goes on at step 40 of 60"));
  }
  CHECK((content_of(run + "/supernet.h5") == whole));
}

}  // namespace
}  // namespace elastiform
