// compare that was stopped, by Ctrl-C, by a kill, or by another writer, and what it makes of what was left.
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <functional>
#include <thread>

#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "tests/experiments/experiment_folder.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

constexpr int kSteps = 300;  // a checkpoint every 20: time enough to be stopped between the first and the last
const std::string kOther = "/compare-other-rate0.01-seed0-steps300";

bool comes_true(const std::function<bool()>& condition) {
  for (int naps = 0; naps < 30'000; ++naps) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

/// 0: none.
int child_of(int process) {
  const std::string parent = "PPid:\t" + std::to_string(process) + "\n";
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (content_of(entry.path().string() + "/status").find(parent) != std::string::npos) return std::stoi(name);
  }
  return 0;
}

/// A dead one may still wait for whoever has inherited it.
bool runs(int process) {
  const std::string status = content_of("/proc/" + std::to_string(process) + "/status");
  return !status.empty() && status.find("State:\tZ") == std::string::npos && status.find("State:\tX") == std::string::npos;
}

std::int64_t steps_in(const std::string& run) { return Hdf5Reader(run + "/supernet.h5", "supernet").integer_attribute("/", "step"); }

/// Starts the comparison in runs/half; once the second training has a checkpoint, stop() is handed the process.
ProgramResult stopped(const ExperimentFolder& here, const std::function<void(int process)>& stop) {
  bool sent = false;
  const auto result =
      run_program_in(here.folder.path(), words("compare two.toml --run runs/half"), [&](int process, const std::string& line) {
        if (sent || !line.starts_with("compare one")) return;
        sent = comes_true([&] { return std::filesystem::exists(here.folder.path() + "/runs/half" + kOther + "/supernet.h5"); });
        stop(process);
      });
  REQUIRE(sent);
  return result;
}

}  // namespace

TEST_CASE("a comparison that was stopped half-way through a training goes on to the same losses", "[experiments][compare]") {
  const ExperimentFolder here("subnets = [\"middle\"]\n", kTwoArms, kSteps);
  const std::string half = here.folder.path() + "/runs/half";
  SECTION("by Ctrl-C") {
    const auto result = stopped(here, [](int process) { ::kill(process, SIGINT); });
    CHECK(result.status == 130);
    CHECK_THAT(result.out, Contains("1 trainings are kept") && Contains("the same command goes on"));
  }
  SECTION("by a kill, which ends the training too") {
    int training = 0;
    const auto result = stopped(here, [&](int process) {
      training = child_of(process);
      ::kill(process, SIGKILL);
    });
    CHECK(result.status == 128 + SIGKILL);
    REQUIRE(training > 0);
    CHECK(comes_true([&] { return !runs(training); }));
  }
  CHECK(steps_in(half + kOther) < kSteps);
  const auto rest = here.run("compare two.toml --json --run runs/half");
  CHECK_THAT(content_of(half + kOther + ".log"), Contains("goes on at step"));
  const auto whole = here.run("compare two.toml --json --run runs/whole");
  for (std::size_t i = 0; i < 2; ++i) CHECK(arm_of(rest, i)["subnets"] == arm_of(whole, i)["subnets"]);
  CHECK(std::isnan(Hdf5Reader(half + "/compare.h5", "comparison").table("/trials").reals("joules")[1]));  // not all of it was metered
}

TEST_CASE("compare leaves a training alone that another process writes, and its folder is the experiment's", "[experiments][compare]") {
  const ExperimentFolder here("", kTwoArms);
  const std::string trial = here.folder.path() + "/runs/compare-two/compare-one-rate0.01-seed0-steps8";
  std::filesystem::create_directories(trial);
  write_durably(trial + "/recipe.toml", "somebody's");
  {
    const FolderLock lock(trial);
    here.refused("compare two.toml", "no other writer");
    CHECK(content_of(trial + "/recipe.toml") == "somebody's");
  }
  // No trial is done, and still another experiment does not go on with what this one began.
  write_durably(here.folder.path() + "/two.toml", "recipe = \"micro.toml\"\nset = [\"train.steps=8\"]\nseeds = 3\n" + kTwoArms);
  here.refused("compare two.toml", "this experiment");
}

TEST_CASE("a run of another recipe in a trial's folder is not continued", "[experiments][compare]") {
  const ExperimentFolder here("", kTwoArms);
  const std::string trial = "runs/compare-two/compare-other-rate0.01-seed0-steps8";
  REQUIRE(here.run("train micro.toml --run " + trial + " --set train.steps=8 --set train.clip=7").status == 0);
  REQUIRE(here.run("compare two.toml").status == 0);
  REQUIRE(here.run("train micro.toml --run runs/alone --set train.steps=8 --set train.clip=0.001").status == 0);
  const auto expected = here.run("inspect runs/alone/supernet.h5 --digest");
  CHECK(expected.status == 0);
  CHECK(here.run("inspect " + trial + "/supernet.h5 --digest").out == expected.out);
}

}  // namespace elastiform
