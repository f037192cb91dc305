#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/bf16_tiles.hpp"
#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/sanitized.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
namespace fs = std::filesystem;

// Steps and losses of a log, without timings.
std::string rows_of(const std::string& run) {
  std::ifstream file(run + "/training.jsonl");
  std::string rows;
  for (std::string line; std::getline(file, line);) rows += line.substr(0, line.find("\"seconds\"")) + "\n";
  return rows;
}

TEST_CASE("a resume refuses a recipe that its checkpoint was not trained with, by key", "[experiments][resume]") {
  struct Case {
    const char *line, *instead, *says;
  };
  const auto c = GENERATE(
      Case{"rate = 0.01", "rate = 0.02", "train.rate: expected 0.01 (what the checkpoint was trained with), found 0.02"},
      Case{"precision = \"f32\"", "precision = \"bf16\"", "train.precision: expected 'f32' (what the checkpoint was trained with)"},
      Case{"seed = 0", "seed = 1", "train.seed: expected 0 (what the checkpoint was trained with), found 1"},
      Case{"schedule = \"wsd\"", "schedule = \"constant\"", "only with train.schedule = wsd"},  // its cooldown, before anything is compared
      Case{"splits = [90, 5, 5]", "splits = [80, 10, 10]", "data.splits.0: expected 90"},
      Case{"largest = 0.25", "largest = 0.5", "stage.1.largest: expected 0.25"}, Case{"threads = 1", "threads = 2", "deploy.threads"});
  CAPTURE(c.instead);
  const TemporaryFolder folder;
  const auto run = edited_run(folder, c.line, c.instead);
  const auto result = check_refused(folder.path(), words("train --resume runs/edited"), c.says);
  CHECK_THAT(result.err, Contains("runs/edited/recipe.toml"));
}

TEST_CASE("a resume may change the place of the text and the distance of checkpoints", "[experiments][resume]") {
  const TemporaryFolder folder;
  edited_run(folder, "checkpoint_every = 20", "checkpoint_every = 7");
  fs::rename(folder / "text.txt", folder / "moved.txt");
  CHECK(run_program_in(folder.path(), words("train --resume runs/edited --set data.text=moved.txt")).status == 0);
}

TEST_CASE("a lengthened run that was killed before its next checkpoint goes on", "[experiments][resume]") {
  const auto& folder = micro_folder();
  const std::string options = " --set train.schedule=constant --set train.warmup=0.1";
  REQUIRE(run_program_in(folder.path(), words("train micro.toml --run lengthened/a" + options)).status == 0);
  fs::copy(folder / "lengthened/a", folder / "lengthened/b", fs::copy_options::recursive);
  REQUIRE(run_program_in(folder.path(), words("train --resume lengthened/a --steps 90")).status == 0);
  // The longer recipe stands, and the checkpoint is still the one of step 60.
  folder.write("lengthened/b/recipe.toml", content_of(folder / "lengthened/a/recipe.toml"));
  const auto rest = run_program_in(folder.path(), words("train --resume lengthened/b"));
  INFO(rest.err);
  CHECK(rest.status == 0);
  CHECK((content_of(folder / "lengthened/b/supernet.h5") == content_of(folder / "lengthened/a/supernet.h5")));
}

// The last checkpoint's files change one after the other; wherever a kill comes, what a resume leaves is what no kill would have left.
TEST_CASE("killed at any sync or rename of a checkpoint and resumed, every file is what it would be", "[experiments][resume]") {
  const auto& folder = micro_folder();
  const std::string line = " --set train.steps=8 --set train.log_every=4 --set train.checkpoint_every=4 --threads 1";
  REQUIRE(run_program_in(folder.path(), words("train micro.toml --run points/whole" + line)).status == 0);
  const auto whole = folder / "points/whole";
  const auto best = content_of(whole + "/checkpoints/best.h5");
  REQUIRE((best == content_of(whole + "/checkpoints/step-000008.h5")));  // so the second checkpoint replaces the first one's best
  int killed = 0;
  for (int n = 1;; n += kFailPointStep) {
    CAPTURE(n);
    const auto run = folder / "points/part";
    fs::remove_all(run);
    ::setenv("ELASTIFORM_FAIL_POINT", std::to_string(n).c_str(), 1);
    const auto part = run_program_in(folder.path(), words("train micro.toml --run points/part" + line));
    ::unsetenv("ELASTIFORM_FAIL_POINT");
    if (part.status == 0) break;
    REQUIRE(part.status == 128 + SIGKILL);
    ++killed;
    if (!fs::exists(run + "/supernet.h5")) continue;  // nothing to resume from but step 0
    REQUIRE(run_program_in(folder.path(), words("train --resume points/part --threads 1")).status == 0);
    CHECK((content_of(run + "/supernet.h5") == content_of(whole + "/supernet.h5")));
    CHECK((content_of(run + "/checkpoints/best.h5") == best));
    CHECK(rows_of(run) == rows_of(whole));
    CHECK(run_program_in(folder.path(), words("inspect points/part/training.h5 --digest")).out ==
          run_program_in(folder.path(), words("inspect points/whole/training.h5 --digest")).out);
  }
  CHECK(killed >= 20 / kFailPointStep);
}

TEST_CASE("a memory limit changes no bit of a run, at its start or when it resumes", "[experiments][resume][memory]") {
  const TemporaryFolder folder;
  write_micro(folder, staged_micro_recipe());
  const auto run = [&](const std::string& line) { return run_program_in(folder.path(), words(line)); };
  const auto too_low = run("train micro.toml --memory-limit 1KiB");
  const std::string before = "--memory-limit: expected at least ", after = " for this recipe";
  REQUIRE(too_low.status == 2);
  const auto begin = too_low.err.find(before) + before.size();
  const auto least = too_low.err.substr(begin, too_low.err.find(after) - begin);  // what it names can be typed and suffices
  const auto limited = run("train micro.toml --memory-limit " + least);
  CAPTURE(least, limited.err);
  REQUIRE(limited.status == 0);
  CHECK_THAT(limited.out, Contains("backward recomputes") && Contains("% of the largest's forward FLOPs"));
  const auto whole = micro_folder() / "runs/micro";
  CHECK((content_of(folder / "runs/micro/supernet.h5") == content_of(whole + "/supernet.h5")));
  CHECK(rows_of(folder / "runs/micro") == rows_of(whole));
  CHECK((content_of(folder / "runs/micro/recipe.toml") == content_of(whole + "/recipe.toml")));

  // Begun without a limit and stopped; goes on under one.
  const auto part = [&](int process, const std::string& line) {
    if (line.find("step 20") != std::string::npos) ::kill(process, SIGINT);
  };
  const auto stopped = run_program_in(folder.path(), words("train micro.toml --run runs/part"), part);
  REQUIRE((stopped.status == 130 || stopped.status == 0));  // 0: it was over before the signal came
  const auto resumed = run("train --resume runs/part --memory-limit " + least);
  CAPTURE(resumed.err);
  REQUIRE(resumed.status == 0);
  CHECK_THAT(resumed.out, Contains("backward recomputes"));
  CHECK((content_of(folder / "runs/part/supernet.h5") == content_of(whole + "/supernet.h5")));
}

TEST_CASE("in bf16 the least --memory-limit that is named suffices, and a dry run names the same memory", "[experiments][memory]") {
  if (!cpu::has_bf16()) return;
  const TemporaryFolder folder;
  write_micro(folder, staged_micro_recipe());
  const auto train = [&](const std::string& rest) {
    return run_program_in(folder.path(), words("train micro.toml --set train.steps=2 --set train.precision=bf16 " + rest));
  };
  const auto between = [](const std::string& text, const std::string& before, const std::string& after) {
    const auto begin = text.find(before) + before.size();
    return text.substr(begin, text.find(after, begin) - begin);
  };
  const auto dry = train("--dry-run"), run = train("--run runs/all");
  REQUIRE(run.status == 0);
  CHECK(between(dry.out, "memory: ", "\n") == between(run.out, "memory: ", "\n"));
  const auto least = between(run.out, "lowest --memory-limit is ", "\n");
  const auto limited = train("--run runs/least --memory-limit " + least);
  CAPTURE(least, limited.err);
  CHECK(limited.status == 0);
}

TEST_CASE("ELASTIFORM_ISA chooses the instruction set, and files say which it was", "[experiments][environment]") {
  const TemporaryFolder folder;
  write_micro(folder, staged_micro_recipe());
  const auto train = [&](const std::string& run, const char* isa, const std::string& precision = "f32") {
    ::setenv("ELASTIFORM_ISA", isa, 1);
    auto result =
        run_program_in(folder.path(), words("train micro.toml --set train.steps=2 --set train.precision=" + precision + " --run " + run));
    ::unsetenv("ELASTIFORM_ISA");
    return result;
  };
  const auto refused = train("a", "AVX9");
  CHECK(refused.status == 2);
  CHECK_THAT(refused.err, Contains("ELASTIFORM_ISA: expected one of ") && Contains("found \"AVX9\""));
  CHECK_FALSE(fs::exists(folder / "a"));
  // The last name of the list is the baseline that every build has.
  const auto list = refused.err.substr(0, refused.err.find(", found"));
  const auto baseline = list.substr(list.find_last_of(' ') + 1);
  REQUIRE(train("b", baseline.c_str()).status == 0);
  CHECK_THAT(run_program_in(folder.path(), words("inspect b")).out, Contains(baseline + ", commit"));

  // AMX belongs to bf16, has names of its own, and a name without it turns it off.
  const auto plus = list.find("+AMX");
  CHECK((plus != std::string::npos) == cpu::cpu_offers_bf16_tiles());
  if (plus == std::string::npos) return;
  const auto with = list.substr(list.rfind(' ', plus) + 1, plus + 4 - list.rfind(' ', plus) - 1), without = with.substr(0, with.size() - 4);
  const auto isa_of = [&](const char* run, const std::string& isa, const char* precision) {
    REQUIRE(train(run, isa.c_str(), precision).status == 0);
    return run_program_in(folder.path(), words(std::string("inspect ") + run)).out;
  };
  CHECK_THAT(isa_of("c", with, "bf16"), Contains(with + ", commit"));
  CHECK_THAT(isa_of("d", without, "bf16"), Contains(without + ", commit"));
  CHECK_THAT(isa_of("e", with, "f32"), Contains(without + ", commit"));
}

TEST_CASE("ELASTIFORM_VERBOSE names only what does something", "[experiments][environment]") {
  const TemporaryFolder folder;
  write_micro(folder, staged_micro_recipe());
  const auto with = [&](const char* topics) {
    ::setenv("ELASTIFORM_VERBOSE", topics, 1);
    auto result = run_program_in(folder.path(), words("train micro.toml --set train.steps=1"));
    ::unsetenv("ELASTIFORM_VERBOSE");
    return result;
  };
  for (const char* unknown : {"plan", "search", "kernels,plan", "kernel", "summary "}) {
    const auto refused = with(unknown);
    CAPTURE(unknown, refused.err);
    CHECK(refused.status == 2);
    CHECK_THAT(refused.err, Contains("ELASTIFORM_VERBOSE: expected kernels or summary, found"));
    fs::remove_all(folder / "runs");
  }
  const auto traced = with("kernels");
  CHECK(traced.status == 0);
  CHECK_THAT(traced.err, Contains("matmul y=") && Contains("operation  "));
  fs::remove_all(folder / "runs");
  const auto summary = with("summary");
  CHECK(summary.status == 0);
  CHECK_THAT(summary.err, !Contains("matmul y=") && Contains("operation  ") && Contains("attention_backward") && Contains("adamw"));
}

}  // namespace
}  // namespace elastiform
