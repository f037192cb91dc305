// compare through the real program: arms over seeds, the table, going on, and what it refuses.
#include <csignal>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "experiments/elastiform/compare/energy_meter.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "tests/experiments/program.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
using nlohmann::json;

struct ExperimentFolder {
  TemporaryFolder folder;
  explicit ExperimentFolder(const std::string& head, const std::string& arms, int steps = 8) {
    std::filesystem::copy(micro_folder().path() + "/text.txt", folder.path() + "/text.txt");
    std::filesystem::copy(micro_folder().path() + "/micro.toml", folder.path() + "/micro.toml");
    const std::string seeds = head.find("seeds") == std::string::npos ? "seeds = 2\n" : "";
    write_durably(folder.path() + "/two.toml",
                  "recipe = \"micro.toml\"\nset = [\"train.steps=" + std::to_string(steps) + "\"]\n" + seeds + head + arms);
  }
  ProgramResult run(const std::string& line) const { return run_program_in(folder.path(), words(line)); }
};

const std::string kTwoArms = "[[arm]]\nname = \"one\"\n[[arm]]\nname = \"other\"\nset = [\"train.clip=0.001\"]\n";

json arm_of(const ProgramResult& result, std::size_t index) {
  INFO(result.err);
  REQUIRE(result.status == 0);
  return json::parse(result.out)["arms"][index];
}

}  // namespace

TEST_CASE("compare trains every arm with every seed, keeps it, and says what differs", "[experiments][compare]") {
  const ExperimentFolder here("subnets = [\"middle\", \"smallest\"]\n", kTwoArms);
  const auto first = here.run("compare two.toml --json --page page.md");
  const json arm = arm_of(first, 1);
  CHECK(arm["arm"] == "other");
  CHECK(arm["steps"] == 8);
  CHECK(arm["peak_bytes"].get<std::int64_t>() > arm["planned_bytes"].get<std::int64_t>());
  CHECK(arm["time_ratio"].get<double>() > 0);
  REQUIRE(arm["subnets"].size() == 2);
  const json base = arm_of(first, 0);
  for (std::size_t s = 0; s < 2; ++s) {
    const json& one = arm["subnets"][s];
    CHECK(one["over_seeds"]["mean"].get<double>() ==
          Approx(one["bits_per_byte"].get<double>() - base["subnets"][s]["bits_per_byte"].get<double>()).margin(1e-9));
    CHECK(one["over_seeds"]["low"].get<double>() < one["over_seeds"]["high"].get<double>());
    CHECK(one["over_data"]["low"].get<double>() < one["over_data"]["high"].get<double>());
    const std::string verdict = one["verdict"];
    CHECK((verdict == "better" || verdict == "worse" || verdict == "equivalent" || verdict == "undecided"));
  }
  CHECK_THAT(content_of(here.folder.path() + "/page.md"), Contains("| other | smallest |") && Contains("elastiform compare two.toml"));

  // The file holds what the table was made of.
  const Hdf5Reader file(here.folder.path() + "/runs/compare-two/compare.h5", "comparison");
  const ColumnTable trials = file.table("/trials");
  CHECK(trials.texts("arm") == ColumnTable::Texts{"one", "other", "one", "other"});
  CHECK(trials.integers("seed") == ColumnTable::Integers{0, 0, 1, 1});
  CHECK((trials.reals("loss_0")[1] + trials.reals("loss_0")[3]) / 2 ==
        Approx(arm["subnets"][0]["bits_per_byte"].get<double>()).margin(1e-9));

  // Again: nothing is trained, nothing changes.
  const std::string before = state_of(here.folder.path() + "/runs");
  const auto second = here.run("compare two.toml --json");
  CHECK(second.out == first.out);
  CHECK(state_of(here.folder.path() + "/runs") == before);
  // A run of an arm is a run like any other, the one that train makes.
  const auto alone = here.run("train micro.toml --run runs/alone --set train.steps=8 --set train.seed=1 --set train.clip=0.001");
  REQUIRE(alone.status == 0);
  const std::string trial = "runs/compare-two/compare-other-rate" + arm["rate"].dump() + "-seed1-steps8";
  CHECK(here.run("inspect runs/alone/supernet.h5 --digest").out == here.run("inspect " + trial + "/supernet.h5 --digest").out);

  // Another experiment in its folder would mix two tables.
  write_durably(here.folder.path() + "/two.toml",
                "recipe = \"micro.toml\"\nset = [\"train.steps=9\"]\nseeds = 2\nsubnets = [\"middle\", \"smallest\"]\n" + kTwoArms);
  const auto mixed = here.run("compare two.toml");
  CHECK(mixed.status == 2);
  CHECK_THAT(mixed.err, Contains("compare.h5") && Contains("this experiment") && Contains("--run another folder"));
}

TEST_CASE("compare gives arms equal tokens or FLOPs, and each the best of its rates", "[experiments][compare]") {
  SECTION("tokens") {
    const ExperimentFolder here("equal = \"tokens\"\n",
                                "[[arm]]\nname = \"one\"\n[[arm]]\nname = \"double\"\nset = [\"train.accumulation=2\"]\n");
    const auto result = here.run("compare two.toml --json");
    CHECK(arm_of(result, 1)["steps"] == 4);
    CHECK(arm_of(result, 1)["tokens"] == arm_of(result, 0)["tokens"]);
  }
  SECTION("FLOPs") {  // enough steps for the shares of stages and the drawn subnets to come out alike
    const ExperimentFolder here("equal = \"flops\"\n",
                                "[[arm]]\nname = \"one\"\n[[arm]]\nname = \"double\"\nset = [\"train.accumulation=2\"]\n", 80);
    const auto result = here.run("compare two.toml --json");
    CHECK(arm_of(result, 1)["steps"].get<double>() == Approx(40).margin(2));
    CHECK(arm_of(result, 1)["flops"].get<double>() == Approx(arm_of(result, 0)["flops"].get<double>()).epsilon(0.05));
  }
  SECTION("rates") {
    const std::string rates = "rates = [1e-9, 4e-3]\n";  // with 1e-9 nothing is learned
    const ExperimentFolder here("", "[[arm]]\nname = \"one\"\n" + rates + "[[arm]]\nname = \"other\"\nset = [\"train.clip=0\"]\n" + rates);
    const auto result = here.run("compare two.toml --json");
    CHECK(arm_of(result, 0)["rate"] == 4e-3);
    CHECK(arm_of(result, 1)["rate"] == 4e-3);
    CHECK_THAT(result.err, Contains("tune other seed 1000000 rate 1e-09"));
  }
}

TEST_CASE("a comparison that Ctrl-C ended goes on to the same losses", "[experiments][compare]") {
  const ExperimentFolder here("", kTwoArms);
  const auto whole = here.run("compare two.toml --json --run runs/whole");
  bool sent = false;
  const auto half =
      run_program_in(here.folder.path(), words("compare two.toml --run runs/half"), [&](int process, const std::string& line) {
        if (!sent && line.starts_with("compare other")) sent = ::kill(process, SIGINT) == 0;
      });
  CHECK(sent);
  // Whatever was still training then, its parent ends with 130, or had nothing left to do.
  if (half.status != 0) {
    CHECK(half.status == 130);
    CHECK_THAT(half.out, Contains("the same command goes on"));
  }
  const auto rest = here.run("compare two.toml --json --run runs/half");
  for (std::size_t i = 0; i < 2; ++i) CHECK(arm_of(rest, i)["subnets"] == arm_of(whole, i)["subnets"]);
}

TEST_CASE("what cannot be compared is refused in one line before anything is trained", "[experiments][compare]") {
  struct Case {
    std::string head, arms, expected;
  };
  const std::string one = "[[arm]]\nname = \"one\"\n";
  const Case wrong = GENERATE_COPY(values<Case>({
      {"equal = \"hours\"\n", kTwoArms, "one of steps, tokens, flops, seconds"},
      {"seed = 3\n", kTwoArms, "nearest seeds"},
      {"seeds = 1\n", kTwoArms, "seeds"},
      {"", one, "2 to 64 tables"},
      {"", one + one, "a name that no other arm has"},
      {"", one + "[[arm]]\nname = \"a/b\"\n", "letters, digits"},
      {"", one + "[[arm]]\nname = \"two\"\nset = [\"train.optimiser=adamw\"]\n", "arm two"},
      {"", one + "[[arm]]\nname = \"two\"\nset = [\"train.seed=3\"]\n", "seeds are the experiment's"},
      {"", one + "[[arm]]\nname = \"two\"\nrates = [1e-3]\n", "arms are tuned alike"},
      {"subnets = [\"e1:h1f1\"]\n", kTwoArms, "subnets"},
  }));
  const ExperimentFolder here(wrong.head, wrong.arms);
  const auto result = here.run("compare two.toml");
  INFO(wrong.head << wrong.arms << result.err);
  CHECK(result.status == 2);
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK_THAT(result.err, Contains("two.toml") && Contains(wrong.expected));
  CHECK_FALSE(std::filesystem::exists(here.folder.path() + "/runs"));
}

TEST_CASE("energy is the packages' counters, which turn over, and unknown without any", "[experiments][compare]") {
  const TemporaryFolder powercap;
  CHECK(std::isnan(EnergyMeter(Device::cpu, powercap.path()).joules()));
  const auto set = [&](const std::string& zone, long long now) {
    std::filesystem::create_directories(powercap.path() + "/" + zone);
    write_durably(powercap.path() + "/" + zone + "/energy_uj", std::to_string(now) + "\n");
    write_durably(powercap.path() + "/" + zone + "/max_energy_range_uj", "100000000\n");
  };
  set("intel-rapl:0", 90'000'000);
  set("intel-rapl:1", 1'000'000);
  set("intel-rapl:0:0", 5'000'000);  // a part of package 0
  EnergyMeter meter(Device::cpu, powercap.path());
  set("intel-rapl:0", 10'000'000);  // turned over after 10 J, and 10 J more
  set("intel-rapl:1", 4'000'000);
  set("intel-rapl:0:0", 50'000'000);
  CHECK(meter.joules() == Approx(23));
  set("intel-rapl:1", 5'000'000);
  CHECK(meter.joules() == Approx(24));
}

}  // namespace elastiform
