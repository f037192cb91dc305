// search --finalists, through the real program: the best of a search are trained alone and ranked again.
#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
using nlohmann::json;

const std::string kLine =
    "search runs/micro --budget parameters=..90% --algorithm random --evaluations 6 --finalists 3 --finetune-steps 25";

}  // namespace

TEST_CASE("finalists are tuned alone, scored again, ranked twice and kept", "[experiments][finalists]") {
  const OwnRun own;
  const json found = own.json_of(kLine)[0], tuned = found["finalists"];
  REQUIRE(tuned["ranking"].size() == 3);
  CHECK(tuned["steps"] == 25);
  std::vector<int> ranks;
  for (const json& one : tuned["ranking"]) {
    ranks.push_back(one["rank_after"].get<int>());
    CHECK(one["before"]["subnet"] == one["subnet"]);
    CHECK(one["after"]["subnet"] == one["subnet"]);
    CHECK(one["after"]["loss"] != one["before"]["loss"]);
    CHECK(one["after"]["weights_hash"] != one["before"]["weights_hash"]);
    CHECK(one["after"]["blocks"] == one["before"]["blocks"]);
    CHECK(one["after"]["parameters"] == one["before"]["parameters"]);
    CHECK(one["after"]["id"].get<int>() > one["before"]["id"].get<int>());
    // The tuned run itself gives that score.
    CHECK(own.json_of("front " + one["run"].get<std::string>())[0]["loss"] == one["after"]["loss"]);
  }
  for (std::size_t i = 1; i < 3; ++i)
    CHECK(tuned["ranking"][i]["before"]["loss"].get<double>() >= tuned["ranking"][i - 1]["before"]["loss"].get<double>());
  CHECK(tuned["ranking"][0]["before"]["id"] == found["best"]["id"]);
  for (const json& one : tuned["ranking"])
    for (const json& other : tuned["ranking"])
      CHECK((one["after"]["loss"].get<double>() < other["after"]["loss"].get<double>()) ==
            (one["rank_after"].get<int>() < other["rank_after"].get<int>()));
  std::ranges::sort(ranks);
  CHECK(ranks == std::vector<int>{1, 2, 3});

  const std::string digest = own.run("inspect runs/micro --digest").out;
  CHECK(own.json_of(kLine)[0] == found);  // trains and stores nothing more
  CHECK(own.run("inspect runs/micro --digest").out == digest);
  const std::string text = own.run(kLine).out;
  CHECK_THAT(text, Contains("rank after") && Contains("Kendall's tau") && Contains("next: elastiform export runs/micro/finalists/"));
  const std::string id = std::to_string(tuned["ranking"][0]["after"]["id"].get<int>());
  CHECK_THAT(own.run("show runs/micro " + id).out, Contains("a fine-tuned finalist of a search") && Contains("finetune "));
  for (const json& member : own.json_of("front runs/micro")) CHECK(member["weights_hash"] == found["best"]["weights_hash"]);

  // The same from the start, on two threads: the same bits. Another number of steps is another training.
  const OwnRun again;
  const json repeated = again.json_of(kLine + " --threads 2")[0]["finalists"]["ranking"];
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(repeated[i]["after"]["loss"] == tuned["ranking"][i]["after"]["loss"]);
    CHECK(repeated[i]["after"]["weights_hash"] == tuned["ranking"][i]["after"]["weights_hash"]);
  }
  CHECK(again.run("inspect runs/micro --digest").out == digest);
}

TEST_CASE("finalists that are killed in the middle of a training go on with the same bits", "[experiments][finalists][resume]") {
  const std::string line =
      "search runs/micro --algorithm random --evaluations 3 --finalists 2 --finetune-steps 40 --threads 1 --budget parameters=..90%";
  const OwnRun whole, part;
  const json expected = whole.json_of(line)[0]["finalists"]["ranking"];
  int seen = 0;
  // Of the second finalist's training: "step 20" is printed where a checkpoint is written (the micro recipe's checkpoint_every).
  const auto stop = [&](int process, const std::string& text) {
    if (text.find("step 20") != std::string::npos && ++seen == 2) ::kill(process, SIGKILL);
  };
  const ProgramResult killed = run_program_in(part.folder.path(), words(line), stop);
  REQUIRE((killed.status == 128 + SIGKILL || killed.status == 0));  // 0: it was over before the signal came
  CHECK(seen == 2);
  const json resumed = part.json_of(line)[0]["finalists"]["ranking"];
  REQUIRE(resumed.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(resumed[i]["after"]["loss"] == expected[i]["after"]["loss"]);
    CHECK(resumed[i]["after"]["weights_hash"] == expected[i]["after"]["weights_hash"]);
    CHECK(resumed[i]["rank_after"] == expected[i]["rank_after"]);
  }
  CHECK(part.run("inspect runs/micro --digest").out == whole.run("inspect runs/micro --digest").out);
}

TEST_CASE("a second search with the same finalists keeps its own ranking, once", "[experiments][finalists]") {
  const OwnRun own;
  // Both see the whole space, so the best is the same.
  const std::string line = "search runs/micro --budget parameters=..60% --algorithm random --evaluations 4000 --seed ";
  const auto id = [&](const std::string& seed) {
    return own.json_of(line + seed + " --finalists 1 --finetune-steps 3")[0]["finalists"]["ranking"][0]["after"]["id"].get<int>();
  };
  const auto digest = [&] { return own.run("inspect runs/micro --digest").out; };
  const int first = id("1");
  REQUIRE(own.run(line + "2").status == 0);
  const std::string before = digest();
  CHECK(id("2") == first);
  const std::string after = digest();
  CHECK(after != before);  // a round of the second ranking
  CHECK(id("2") == first);
  CHECK(id("1") == first);
  CHECK(digest() == after);
}

TEST_CASE("finalists of a run with a tuning that does not merge are refused before the search", "[experiments][finalists][wrong]") {
  const OwnRun own;
  REQUIRE(own.run("finetune runs/micro --method prefix --steps 2 --run runs/prefixed").status == 0);
  const std::string before = state_of(own.folder.path());
  own.refused("search runs/prefixed --algorithm random --evaluations 3 --finalists 2 --finetune-steps 2",
              "--finalists: expected a run whose weights are a plain network's");
  CHECK(state_of(own.folder.path()) == before);
}

TEST_CASE("shallow finalists of a run that drops tokens learn from all of them", "[experiments][finalists]") {
  const OwnRun own;
  // At one width three blocks are beyond the budget.
  own.succeed(
      "train micro.toml --run runs/dropped --set space.embed=48 --set space.depth=1,3 --set train.tokens=random_ltd "
      "--set train.steps=4");
  const json tuned = own.json_of(
      "search runs/dropped --budget parameters=..40% --algorithm random --evaluations 3 --finalists 1 --finetune-steps 2")[0]["finalists"];
  REQUIRE(tuned["ranking"].size() == 1);
  CHECK_THAT(tuned["ranking"][0]["subnet"].get<std::string>(), !Contains("3x"));
  CHECK_THAT(content_of(own.folder / (tuned["ranking"][0]["run"].get<std::string>() + "/recipe.toml")), !Contains("random_ltd"));
}

TEST_CASE("finalists without steps, and steps without finalists, are refused", "[experiments][finalists][wrong]") {
  check_all_refused({
      {"search runs/micro --finalists 2", "--finalists: expected --finetune-steps N beside it"},
      {"search runs/micro --finetune-steps 5", "--finetune-steps: expected --finalists K beside it"},
      {"search runs/micro --finalists 0 --finetune-steps 5", "an integer of at least 1, found 0"},
      {"search runs/micro --finalists two --finetune-steps 5", "an integer of at least 1, found two"},
      {"search runs/micro --finalists 2 --finetune-steps 0", "an integer of at least 1, found 0"},
      {"search runs/micro --finalist 2 --finetune-steps 5", "nearest --finalists"},
      {"search runs/micro --finalists 2 --finetune-step 5", "nearest --finetune-steps"},
  });
}

}  // namespace elastiform
