// compare through the real program: arms over seeds, the table, going on, and what it refuses.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "experiments/elastiform/compare/energy_meter.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "tests/experiments/experiment_folder.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {

using Catch::Matchers::Contains;
using nlohmann::json;

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
  CHECK_THAT(content_of(here.folder.path() + "/page.md"),
             Contains("| other | smallest |") && Contains("elastiform compare two.toml") && Contains(" threads, device cpu, commit "));

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
  const auto mixed = here.refused("compare two.toml", "compare.h5");
  CHECK_THAT(mixed.err, Contains("this experiment") && Contains("--run another folder"));
}

TEST_CASE("trials on other threads or another text are no trials of this table", "[experiments][compare]") {
  const ExperimentFolder here("", kTwoArms, 2);
  REQUIRE(here.run("compare two.toml --threads 1").status == 0);
  const auto threads = here.refused("compare two.toml --threads 2", "trials with --threads 2");
  CHECK_THAT(threads.err, Contains("found 1"));
  write_durably(here.folder.path() + "/text.txt", content_of(here.folder.path() + "/text.txt") + "more");
  here.refused("compare two.toml --threads 1", "trials on the text, SHA-256");
}

TEST_CASE("compare scores the running average where an arm keeps one", "[experiments][compare]") {
  const ExperimentFolder here("subnets = [\"smallest\"]\n",
                              "[[arm]]\nname = \"one\"\n[[arm]]\nname = \"averaged\"\nset = [\"train.ema=0.9\"]\n");
  const json arm = arm_of(here.run("compare two.toml --json"), 1);
  const Hdf5Reader file(here.folder.path() + "/runs/compare-two/compare.h5", "comparison");
  const std::string run = "runs/compare-two/compare-averaged-rate" + arm["rate"].dump() + "-seed0-steps8";
  const auto score = [&](const std::string& weights) {
    const auto result = here.run("evaluate " + run + " --subnet smallest --split report --weights " + weights + " --json");
    INFO(result.err);
    REQUIRE(result.status == 0);
    return json::parse(result.out)["bits_per_byte"].get<double>();
  };
  const double stored = file.table("/trials").reals("loss_0")[1];
  CHECK(stored == Approx(score("ema")).margin(1e-9));
  CHECK(std::abs(stored - score("trained")) > 1e-6);
}

TEST_CASE("the peak of a small training beside a large one is its own", "[experiments][compare]") {
  const ExperimentFolder here("equal = \"steps\"\nsubnets = [\"smallest\"]\n",
                              "[[arm]]\nname = \"large\"\nset = [\"space.embed=16,768\"]\n[[arm]]\nname = \"small\"\n", 2);
  const auto both = here.run("compare two.toml --json");
  const auto large = arm_of(both, 0)["peak_bytes"].get<std::int64_t>(), small = arm_of(both, 1)["peak_bytes"].get<std::int64_t>();
  const auto alone = here.run("train micro.toml --run runs/alone --set train.steps=2 --json");
  REQUIRE(alone.status == 0);
  const auto expected = json::parse(alone.out)["peak_bytes"].get<std::int64_t>();
  constexpr std::int64_t kNoise = 8 << 20;  // what allocators and page faults differ by; the large weights alone are 57 MB
  CHECK(std::abs(small - expected) < kNoise);
  CHECK(large > small + 10 * kNoise);
}

TEST_CASE("compare gives arms equal steps, tokens, FLOPs or seconds, and each the best of its rates", "[experiments][compare]") {
  SECTION("tokens") {
    const ExperimentFolder here("equal = \"tokens\"\n",
                                "[[arm]]\nname = \"one\"\n[[arm]]\nname = \"double\"\nset = [\"train.accumulation=2\"]\n");
    const auto result = here.run("compare two.toml --json");
    CHECK(arm_of(result, 1)["steps"] == 4);
    CHECK(arm_of(result, 1)["tokens"] == arm_of(result, 0)["tokens"]);
  }
  SECTION("steps") {
    const ExperimentFolder here("equal = \"steps\"\n", "[[arm]]\nname = \"one\"\n[[arm]]\nname = \"shorter\"\nset = [\"train.steps=5\"]\n");
    const auto result = here.run("compare two.toml --json");
    CHECK(arm_of(result, 0)["steps"] == 8);
    CHECK(arm_of(result, 1)["steps"] == 8);
  }
  SECTION("seconds") {
    const ExperimentFolder here("equal = \"seconds\"\n",
                                "[[arm]]\nname = \"one\"\n[[arm]]\nname = \"slow\"\nset = [\"train.accumulation=8\"]\n", 40);
    const auto dry = here.run("compare two.toml --dry-run");
    CHECK_THAT(dry.out, Contains("slow: 3 probes of 100 steps") && Contains("10 trainings, probes included"));
    const auto result = here.run("compare two.toml --json");
    CHECK(arm_of(result, 0)["steps"] == 40);
    const ColumnTable trials = Hdf5Reader(here.folder.path() + "/runs/compare-two/compare.h5", "comparison").table("/trials");
    std::vector<double> seconds[2];
    for (std::size_t i = 0; i < trials.rows(); ++i)
      if (trials.texts("purpose")[i] == "probe") seconds[trials.texts("arm")[i] == "slow"].push_back(trials.reals("seconds")[i]);
    REQUIRE((seconds[0].size() == 3 && seconds[1].size() == 3));
    for (auto& values : seconds) std::sort(values.begin(), values.end());
    CHECK(arm_of(result, 1)["steps"] == std::max(1LL, std::llround(40 * seconds[0][1] / seconds[1][1])));
    CHECK(arm_of(result, 1)["steps"].get<int>() < 40);
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
      {"", one + "[[arm]]\nname = \"two\"\nset = [\"data.splits=80,10,10\"]\n", "compare arms on one text"},
  }));
  const ExperimentFolder here(wrong.head, wrong.arms);
  INFO(wrong.head << wrong.arms);
  CHECK_THAT(here.refused("compare two.toml", wrong.expected).err, Contains("two.toml"));
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
