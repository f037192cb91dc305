// search, front, show and evaluate through the real program, on a copy of the trained micro run.
#include <csignal>
#include <cstdlib>
#include <future>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/sanitized.hpp"

namespace elastiform {
namespace {

using nlohmann::json;

// Losses are means over tokens, differences over blocks, and a last block may be short: they differ by less than this here.
constexpr double kBlockMean = 0.003;

}  // namespace

TEST_CASE("a list of subnets is scored as a search scores them, from the same memo", "[experiments][search]") {
  const OwnRun copy;
  const json search = copy.json_of("search runs/micro --budget parameters=..80% --evaluations 3 --algorithm random");
  const std::string best = search[0]["best"]["subnet"], other = "e32:h2f64";
  copy.folder.write("list.txt", other + "\r\n \n\t" + best + " \nlargest\n");
  const json list = copy.json_of("evaluate runs/micro --subnets list.txt");
  REQUIRE(list.size() == 3);
  CHECK(list[0]["subnet"] == other);
  CHECK(list[1]["id"] == search[0]["best"]["id"]);
  CHECK(list[1]["loss"] == search[0]["best"]["loss"]);
  CHECK(copy.json_of("evaluate runs/micro --subnets list.txt") == list);
}

TEST_CASE("search finds, stores, continues, and compares with every homogeneous subnet", "[experiments][search]") {
  const OwnRun copy;
  const json first = copy.json_of("search runs/micro --budget parameters=..80% --evaluations 6 --algorithm random");
  REQUIRE(first.size() == 1);
  CHECK(first[0]["evaluations"] == 6);
  CHECK(first[0]["homogeneous"].get<int>() > 0);
  CHECK(first[0]["law"] == "balanced");
  // What the algorithm found against its rival, both printed, whatever the answer is.
  CHECK(first[0]["difference"]["bits_per_byte"].get<double>() ==
        Approx(first[0]["best_of_algorithm"]["bits_per_byte"].get<double>() - first[0]["best_homogeneous"]["bits_per_byte"].get<double>())
            .margin(kBlockMean));

  const json longer = copy.json_of("search runs/micro --budget parameters=..80% --evaluations 9 --algorithm random");
  CHECK(longer[0]["search"] == first[0]["search"]);
  CHECK(longer[0]["evaluations"] == 9);
  CHECK(longer[0]["best"]["bits_per_byte"].get<double>() <= first[0]["best"]["bits_per_byte"].get<double>());
  // The same command again evaluates nothing.
  const std::string before = state_of(copy.folder.path() + "/runs/micro/checkpoints");
  CHECK(copy.json_of("search runs/micro --budget parameters=..80% --evaluations 9 --algorithm random") == longer);
  CHECK(state_of(copy.folder.path() + "/runs/micro/checkpoints") == before);

  const json front = copy.json_of("front runs/micro");
  REQUIRE(!front.empty());
  for (std::size_t i = 1; i < front.size(); ++i) {
    CHECK(front[i]["parameters"].get<std::int64_t>() > front[i - 1]["parameters"].get<std::int64_t>());
    CHECK(front[i]["loss"].get<double>() < front[i - 1]["loss"].get<double>());
  }
  CHECK(front == longer[0]["front"]);
  const std::string id = std::to_string(front[0]["id"].get<int>());
  CHECK(copy.json_of("show runs/micro " + id) == front[0]);
  CHECK_THAT(copy.run("show runs/micro " + id).out, Catch::Contains(front[0]["subnet"].get<std::string>()) && Catch::Contains("bits/byte"));

  const auto text = copy.run("search runs/micro --budget parameters=..80% --evaluations 9 --algorithm random");
  for (const char* part :
       {"best found", "best homogeneous", "random - homogeneous: ", "95 % interval", "margin", "parameters=..", "feasible", "O front"})
    CHECK_THAT(text.out, Catch::Contains(part));
  // All of a small set by both the algorithm and its rival: each counts once.
  const auto all = copy.run("search runs/micro --deployable hf-llama --evaluations 100 --algorithm random");
  CHECK_THAT(all.out, Catch::Contains("11 feasible subnets") && Catch::Contains("of 11 evaluated") && !Catch::Contains("of 22 evaluated"));
}

TEST_CASE("founders come first, and make another search of evolution", "[experiments][search]") {
  const OwnRun copy;
  const std::string path = copy.folder / "runs/micro/recipe.toml", recipe = content_of(path);
  REQUIRE_THAT(recipe, Catch::Contains("population = 4\n") && Catch::Contains("founders = 0\n"));
  const auto search = [&](int founders, const std::string& algorithm) {
    std::string text = recipe;
    copy.folder.write("runs/micro/recipe.toml", text.replace(text.find("founders = 0"), 12, "founders = " + std::to_string(founders)));
    return copy.json_of("search runs/micro --budget parameters=..90% --evaluations 3 --algorithm " + algorithm)[0];
  };
  const json all = search(4, "evolution");
  for (int id = 1; id <= 3; ++id) {
    const std::string subnet = copy.json_of("show runs/micro " + std::to_string(id))["subnet"];
    CAPTURE(subnet);
    CHECK(subnet.find(',') == std::string::npos);  // blocks are all equal
  }
  CHECK(all["best_of_algorithm"]["bits_per_byte"] >= all["best_homogeneous"]["bits_per_byte"]);
  CHECK(search(1000, "evolution")["search"] == all["search"]);  // no more than the population
  const json none = search(0, "evolution");
  CHECK(none["search"] != all["search"]);
  CHECK(none["search"] != search(1, "evolution")["search"]);
  CHECK(search(4, "random")["search"] == search(0, "random")["search"]);
  const json predicted = search(4, "predictor");
  CHECK(predicted["search"] != all["search"]);
  CHECK(predicted["search"] != search(0, "predictor")["search"]);
}

TEST_CASE("evaluate counts looks at the report split, and compares two subnets on the same blocks", "[experiments][search]") {
  const OwnRun copy;
  const json one = copy.json_of("evaluate runs/micro --subnet largest --split report");
  for (const char* key : {"id", "subnet", "split", "loss", "loss_se", "bits_per_byte", "tokens"}) CHECK(one.contains(key));
  CHECK(one["report_looks"] == 1);
  const json two = copy.json_of("evaluate runs/micro --subnet largest --split report --against smallest");
  CHECK(two["report_looks"] == 3);
  CHECK(two["loss"] == one["loss"]);
  CHECK(two["id"] == one["id"]);
  CHECK(two["against"]["difference"].get<double>() ==
        Approx(two["bits_per_byte"].get<double>() - two["against"]["bits_per_byte"].get<double>()).margin(kBlockMean));
  const json same = copy.json_of("evaluate runs/micro --subnet largest --against largest");
  CHECK(same["against"]["verdict"] == "equivalent");
  CHECK(same["report_looks"] == 3);
  CHECK(copy.run("front runs/micro").status == 0);  // nothing a search could be compared with yet: says so
}

TEST_CASE("evaluations of one run stand side by side", "[experiments][search]") {
  const OwnRun copy;
  std::vector<std::future<ProgramResult>> running;
  for (const char* subnet : {"largest", "e32:h1f64", "smallest", "largest"})
    running.push_back(std::async(std::launch::async, run_program_in, copy.folder.path(),
                                 words(std::string("evaluate runs/micro --json --subnet ") + subnet), nullptr));
  std::map<int, json> found;
  for (auto& one : running) {
    const ProgramResult result = one.get();
    INFO(result.err);
    REQUIRE(result.status == 0);
    const json document = json::parse(result.out);
    found[document["id"].get<int>()] = document;
  }
  CHECK(found.size() == 3);  // two asked for the same
  const OwnRun other;        // which remembers nothing
  const json shared = other.json_of("evaluate runs/micro --subnet largest --share-weights");
  CHECK(shared["loss"] == copy.json_of("evaluate runs/micro --subnet largest")["loss"]);
  for (const auto& [id, document] : found) {
    const json stored = copy.json_of("show runs/micro " + std::to_string(id));
    CHECK(stored["subnet"] == document["subnet"]);
    CHECK(stored["loss"] == document["loss"]);
  }
}

TEST_CASE("search refuses what cannot be, in one line and before it writes", "[experiments][search]") {
  const OwnRun copy;
  const std::string before = state_of(copy.folder.path());
  copy.refused("search runs/micro --budget parameters=..9", "nearest parameters");
  copy.refused("search runs/micro --budget parameters", "unquoted");
  copy.refused("search runs/micro --budget latency=..5ms", "elastiform profile runs/micro measures one");
  copy.refused("search runs/micro --budget training_bytes=..5MiB", "cannot be limited yet");
  copy.refused("search runs/micro --algorithm evolutoin", "evolution");
  copy.refused("search runs/micro --algorithm homogeneous --seed 3", "--seed: expected nothing beside --algorithm homogeneous");
  copy.refused("search runs/micro --algorithm homogeneous --law uniform", "--law: expected nothing");
  copy.refused("search runs/micro --algorithm homogeneous --evaluations 5", "--evaluations: expected nothing");
  copy.refused("search runs/micro --deployable hf-gpt2", "hf-gpt2");
  copy.refused("show runs/micro 99", "front");
  copy.refused("show runs/micro best", "number");
  copy.refused("evaluate runs/micro --subnet e7:h1f1", "nearest");
  CHECK(state_of(copy.folder.path()) == before);
}

TEST_CASE("a search killed at any sync or rename and continued has the digest of one that was not", "[experiments][search]") {
  const std::string line = "search runs/micro --budget parameters=..80% --algorithm evolution --evaluations 12 --threads 1";
  const OwnRun whole;
  REQUIRE(whole.run(line).status == 0);
  const std::string digest = whole.run("inspect runs/micro --digest").out;
  int killed = 0;
  for (int n = 1;; n += kFailPointStep) {
    CAPTURE(n);
    const OwnRun part;
    ::setenv("ELASTIFORM_FAIL_POINT", std::to_string(n).c_str(), 1);
    const auto result = part.run(line);
    ::unsetenv("ELASTIFORM_FAIL_POINT");
    if (result.status == 0) break;
    REQUIRE(result.status == 128 + SIGKILL);
    ++killed;
    REQUIRE(part.run("inspect runs/micro").status == 0);  // it opens, whatever was half written
    REQUIRE(part.run(line).status == 0);
    CHECK(part.run("inspect runs/micro --digest").out == digest);
  }
  CHECK(killed >= 20 / kFailPointStep);
}

// The homogeneous rival evaluates between the two sessions, so ids differ; what was found does not.
TEST_CASE("a search that was stopped and continued has the digest of one in one go", "[experiments][search]") {
  const OwnRun parts, whole;
  const std::string line = "search runs/micro --algorithm random --evaluations ";
  for (const char* evaluations : {"3", "9"}) REQUIRE(parts.run(line + evaluations).status == 0);
  REQUIRE(whole.run(line + "9").status == 0);
  const auto digest = parts.run("inspect runs/micro --digest");
  CHECK(digest.status == 0);
  CHECK(digest.out == whole.run("inspect runs/micro --digest").out);
  REQUIRE(whole.run(line + "12").status == 0);
  CHECK(digest.out != whole.run("inspect runs/micro --digest").out);
}

}  // namespace elastiform
