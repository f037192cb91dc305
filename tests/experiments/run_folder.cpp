#include <filesystem>

#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

// With other splits what is scored as held out would be text that was trained on.
TEST_CASE("a run whose recipe names other splits is not scored, searched or exported", "[experiments][run-folder]") {
  struct Case {
    const char *line, *instead, *says;
  };
  const auto c =
      GENERATE(Case{"splits = [90, 5, 5]", "splits = [5, 90, 5]",
                    "runs/edited/recipe.toml: data.splits.0: expected 90 (what the checkpoint was trained with), found 5; change it back"},
               Case{"split_block = 4096", "split_block = 8192", "data.split_block: expected"});
  const TemporaryFolder folder;
  edited_run(folder, c.line, c.instead);
  const auto before = state_of(folder.path());
  for (const char* line : {"evaluate runs/edited --subnet largest", "search runs/edited", "export runs/edited --subnet largest --to x",
                           "generate runs/edited --prompt a", "front runs/edited", "show runs/edited 1"})
    check_refused(folder.path(), words(line), c.says);
  CHECK((state_of(folder.path()) == before));
}

TEST_CASE("what may be edited in a run's recipe, may", "[experiments][run-folder]") {
  const TemporaryFolder folder;
  edited_run(folder, "evaluations = 6", "evaluations = 3");
  edited_run(folder, "checkpoint_every = 20", "checkpoint_every = 30");
  CHECK(run_program_in(folder.path(), words("evaluate runs/edited --subnet smallest")).status == 0);
}

TEST_CASE("costs are those of today's [deploy], also of what was evaluated under another", "[experiments][run-folder]") {
  const TemporaryFolder folder;
  edited_run(folder, "evaluations = 6", "evaluations = 3");
  const auto first = json_of("evaluate runs/edited --subnet largest", folder.path());
  const auto stored = run_program_in(folder.path(), words("inspect runs/edited/results.h5 --digest")).out;
  edited_run(folder, "[deploy]\ndtype = \"f32\"\nbatch = 1", "[deploy]\ndtype = \"f32\"\nbatch = 8");
  const auto cost = json_of("cost runs/edited --subnet largest", folder.path());
  REQUIRE(cost["inference_bytes"] > first["inference_bytes"]);
  const auto id = std::to_string(first["id"].get<int>());
  CHECK(json_of("show runs/edited " + id, folder.path())["inference_bytes"] == cost["inference_bytes"]);
  const auto again = json_of("evaluate runs/edited --subnet largest", folder.path());  // the memo answers
  CHECK(again["id"] == first["id"]);
  CHECK(again["inference_bytes"] == cost["inference_bytes"]);
  json_of("evaluate runs/edited --subnet smallest", folder.path());  // folds both into results.h5
  edited_run(folder, "batch = 8", "batch = 1");
  CHECK(json_of("show runs/edited " + id, folder.path())["inference_bytes"] == first["inference_bytes"]);
  CHECK(stored != run_program_in(folder.path(), words("inspect runs/edited/results.h5 --digest")).out);
}

TEST_CASE("a training that was killed before it wrote its recipe can be started again", "[experiments][run-folder]") {
  const TemporaryFolder folder;
  write_micro(folder, micro_recipe());
  const auto line = words("train micro.toml --run r --set train.steps=1");
  for (const char* point : {"1", "2", "3"}) {
    ::setenv("ELASTIFORM_FAIL_POINT", point, 1);
    REQUIRE(run_program_in(folder.path(), line).status > 128);
    ::unsetenv("ELASTIFORM_FAIL_POINT");
    REQUIRE_FALSE(fs::exists(folder / "r/recipe.toml"));
    REQUIRE_FALSE(fs::is_empty(folder / "r"));
  }
  const auto again = run_program_in(folder.path(), line);
  INFO(again.err);
  CHECK(again.status == 0);
  // Somebody else's file is no leftover, and no run to resume either.
  folder.write("other/notes.txt", "mine");
  for (const char* target : {"other", "text.txt"})
    check_refused(folder.path(), words(std::string("train micro.toml --run ") + target), "found something else; --run another\n");
}

}  // namespace
}  // namespace elastiform
