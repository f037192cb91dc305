// latency, profile and budgets on latency, through the real program. No time is asserted: budgets are either wide or edited tables.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
namespace fs = std::filesystem;
using nlohmann::json;

/// A run with its table of latencies.
struct TimedRun : OwnRun {
  json table() const { return json::parse(content_of(folder / "runs/micro/latency.json")); }
  void write_table(const json& table) const { folder.write("runs/micro/latency.json", table.dump()); }
};

constexpr const char* kProfile = "profile runs/micro --rounds 2 --passes 2 --networks 6";

/// A table of whole milliseconds: every part takes as many as it has channels.
json made_table(const json& measured) {
  json table = measured;
  const auto set = [](json& row, const std::string& prefix, double ms) {
    for (const char* key : {"ms", "low_ms", "high_ms"}) row[prefix + key] = ms;
  };
  for (json& row : table["frame"]) set(row, "embedding_", 1), set(row, "head_", 1);
  for (json& row : table["attention"]) set(row, "", row["heads"].get<double>());
  for (json& row : table["ffn"]) set(row, "", row["ffn"].get<double>());
  table.erase("calibration"), table.erase("networks");
  table["source"] = "a made table";
  return table;
}

}  // namespace

TEST_CASE("latency measures extracted subnets under the run's [deploy] or what is asked for", "[experiments][latency]") {
  const TimedRun own;
  const json times = own.json_of("latency runs/micro --subnet smallest --subnet largest --rounds 2 --passes 3");
  REQUIRE(times.size() == 2);
  CHECK(times[0]["subnet"] == "e16:h1f32");
  for (const json& time : times) {
    CHECK(time["median_ms"].get<double>() > 0);
    CHECK(time["low_ms"].get<double>() <= time["median_ms"].get<double>());
    CHECK(time["median_ms"].get<double>() <= time["high_ms"].get<double>());
    CHECK(time["deploy"] == "f32,batch=1,context=32,decode,threads=1");
  }
  const std::string text = own.succeed("latency runs/micro --context 7 --batch 2 --phase prefill --threads 2 --rounds 1 --passes 1").out;
  CHECK_THAT(text, Contains("f32,batch=2,context=7,prefill,threads=2") && Contains("10-90 %") && Contains("e32:2xh2f128: "));
  const std::string before = state_of(own.folder.path());
  own.refused("latency runs/micro --context 33", "--context: expected at most the model's 32, found 33");
  own.refused("latency runs/micro --context 0", "an integer of at least 1");
  own.refused("latency runs/micro --batch 257", "at most 256");
  own.refused("latency runs/micro --phase deocde", "nearest decode");
  own.refused("latency runs/micro --subnt largest", "nearest --subnet");
  own.refused("latency runs/micro --rounds 0", "an integer of at least 1");
  own.refused("latency none", "none: expected a run folder");
  CHECK(state_of(own.folder.path()) == before);
}

TEST_CASE("profile measures a complete table, prints its error, and budgets use it", "[experiments][latency]") {
  const TimedRun own;
  own.refused("sample runs/micro --budget latency=..5ms", "elastiform profile runs/micro measures one");
  const json made = own.json_of(kProfile);
  CHECK(made["networks"] == 6);
  CHECK(made["rows"] == 2 + 4 + 4);  // embeds; of each 2 head counts and 2 widths
  for (const char* key : {"error", "sum_error", "low_error", "line_error", "noise"}) CHECK(made[key].contains("worst"));
  CHECK(made["guard"].get<double>() >= 0.01);
  const json table = own.table();
  CHECK(table["deploy"]["threads"] == 1);
  CHECK(table["machine"]["hash"] == made["machine"]);
  const std::string text = own.succeed(kProfile).out;
  CHECK_THAT(text, Contains("e32 attention h2") && Contains("e16 ffn f32") && Contains("noise floor") && Contains("guard band") &&
                       Contains("6 random networks, measured whole: mean error"));

  CHECK(own.json_of("sample runs/micro --budget latency=..10s")["feasible"] == own.json_of("sample runs/micro")["feasible"]);
  CHECK_THAT(own.succeed("cost runs/micro").out, Contains("latency") && Contains("predicted by elastiform "));
  CHECK_THAT(own.succeed("space runs/micro --budget latency=..60%").out, Contains("latency=..60% is latency=..") && Contains("feasible"));
  CHECK(own.json_of("latency runs/micro --rounds 1 --passes 1")[0].contains("predicted_ms"));
  CHECK(!own.json_of("latency runs/micro --rounds 1 --passes 1 --phase prefill")[0].contains("predicted_ms"));
  own.refused("sample runs/micro --budget latency=..1ns", "nearest latency: ");
}

TEST_CASE("a search under a latency budget measures its answers and keeps those inside", "[experiments][latency][search]") {
  const TimedRun own;
  own.json_of(kProfile);
  const std::string line = "search runs/micro --budget latency=..1s --evaluations 6 --algorithm random";
  const json first = own.json_of(line)[0];
  CHECK(first["latency"]["measured"] == true);
  CHECK(first["latency"]["outside"] == 0);
  REQUIRE(!first["front"].empty());
  for (const json& member : first["front"]) {
    CHECK(member["latency_ms"].get<double>() < 1000);
    CHECK(member["predicted_latency_ms"].get<double>() > 0);
  }
  CHECK(first["best"]["latency_ms"].is_number());
  CHECK(own.json_of(line)[0] == first);  // nothing is evaluated or measured twice
  const json front = own.json_of("front runs/micro --budget latency=..1s");
  CHECK(front == first["front"]);
  const std::string shown = own.succeed("show runs/micro " + std::to_string(first["best"]["id"].get<int>())).out;
  CHECK_THAT(shown, Contains("latency, measured") && Contains("latency, predicted"));
  CHECK_THAT(own.succeed("front runs/micro").out, Contains("measured") && Contains("latencies are predicted by elastiform"));

  // By this table every subnet is inside of 1 us, by the clock none is: nothing is returned, and the search says why.
  json table = made_table(own.table());
  const auto tiny = [](json& row, const std::string& prefix) {
    for (const char* key : {"ms", "low_ms", "high_ms"}) row[prefix + key] = 1e-6;
  };
  for (json& row : table["frame"]) tiny(row, "embedding_"), tiny(row, "head_");
  for (const char* part : {"attention", "ffn"})
    for (json& row : table[part]) tiny(row, "");
  own.write_table(table);
  const std::string narrow = "search runs/micro --budget latency=..100ns --evaluations 6 --algorithm random";
  const json none = own.json_of(narrow)[0];
  CHECK(none["search"] != first["search"]);
  CHECK(!none.contains("best"));
  CHECK(none["front"].empty());
  CHECK(none["latency"]["outside"].get<int>() >= 6);
  CHECK_THAT(own.succeed(narrow).out, Contains("best found: none") && Contains("outside of the budget and left out"));
  CHECK(own.json_of("front runs/micro --budget latency=..100ns").size() <= own.json_of("front runs/micro").size());
}

TEST_CASE("a table of another machine is refused, and taken over with a label", "[experiments][latency]") {
  const TimedRun own;
  own.json_of(kProfile);
  json other = made_table(own.table());
  other["machine"] = {{"processor", "Other"}, {"isa", "NEON"}, {"cores", 8}};
  own.write_table(other);
  own.refused("sample runs/micro --budget latency=..5ms", "of another machine (Other, ");
  own.refused("search runs/micro --budget latency=..5ms", "profile --import runs/micro/latency.json");
  CHECK(own.json_of("sample runs/micro").contains("subnets"));  // who asks for no latency is not kept from working
  own.folder.write("other.json", other.dump());
  CHECK_THAT(own.succeed("profile runs/micro --import other.json").out,
             Contains("imported: a made table on Other") && Contains("no measured networks"));
  CHECK(own.table()["imported"] == true);
  // 1 + 1 ms, and of each block its heads and width: at most 2 + 34 of one or two blocks e16, none of e32, whose narrowest FFN is 64.
  // A table of another device says nothing of this one.
  const std::string timed = "latency runs/micro --subnet smallest --rounds 1 --passes 1";
  CHECK(own.json_of(timed)[0].contains("predicted_ms"));
  json of_gpu = own.table();
  of_gpu["device"] = "cuda";
  own.write_table(of_gpu);
  CHECK(!own.json_of(timed)[0].contains("predicted_ms"));
  own.succeed("profile runs/micro --import other.json");
  const json drawn = own.json_of("sample runs/micro --budget latency=..40ms --count 2");
  CHECK(drawn["feasible"] == "2");
  CHECK(drawn["latency_table"] == "imported: a made table on Other");
  CHECK_THAT(own.succeed("space runs/micro").out, Contains("predicted by imported: a made table on Other"));
  CHECK(drawn["subnets"][0]["predicted_latency_ms"].get<double>() <= 36.01);
  const ProgramResult searched = own.succeed("search runs/micro --budget latency=..40ms --evaluations 3");
  CHECK_THAT(searched.out, Contains("imported: a made table on Other") && Contains("not measured here"));
  CHECK(own.json_of("search runs/micro --budget latency=..40ms --evaluations 3")[0]["best"]["latency_ms"].is_null());
}

TEST_CASE("a table that does not fit the run, or a wrong profile, is refused in one line", "[experiments][latency]") {
  const TimedRun own;
  own.json_of(kProfile);
  const json other = made_table(own.table());
  own.folder.write("other.json", other.dump());
  json missing = other;
  missing["ffn"].erase(0);
  own.folder.write("missing.json", missing.dump());
  own.refused("profile runs/micro --import missing.json", "1 shapes without a row");
  json elsewhere = other;
  elsewhere["networks"] = json::array({{{"subnet", "e16:h7f32"}, {"ms", 1}}});
  own.folder.write("elsewhere.json", elsewhere.dump());
  own.refused("profile runs/micro --import elsewhere.json", "h7");
  json foreign = other;
  foreign["networks"] = json::array({{{"subnet", "e999:h1f8"}, {"ms", 1}}});
  own.write_table(foreign);
  CHECK(own.json_of("sample runs/micro").contains("subnets"));  // who asks for no latency is not kept from working
  own.refused("sample runs/micro --budget latency=..5ms", "the network e999:h1f8, which is none of runs/micro");
  own.refused("profile runs/micro --import none.json", "none.json");
  own.refused("profile runs/micro --import other.json --rounds 4", "--rounds: expected nothing beside --import");
  own.refused("profile runs/micro --import other.json --threads 2", "--threads: expected nothing beside --import");
  own.refused("profile runs/micro --import other.json --device cuda-on-host", "--device: expected nothing beside --import");
  own.refused("profile runs/micro --rounds 3", "an even number");
  own.refused("profile runs/micro --threads 2", "--threads: expected 1, deploy.threads of ");
  own.refused("profile runs/micro --improt x", "nearest --import");
  const std::string recipe = content_of(own.folder / "runs/micro/recipe.toml");
  const std::size_t at = recipe.find("phase = \"decode\"");
  REQUIRE(at != std::string::npos);
  own.folder.write("runs/micro/recipe.toml", std::string(recipe).replace(at, 16, "phase = \"prefill\""));
  own.refused("sample runs/micro --budget latency=..5ms", "under [deploy] f32,batch=1,context=32,decode,threads=1, not ");
  own.folder.write("runs/micro/recipe.toml", recipe);
  own.folder.write("runs/micro/latency.json", "{");
  own.refused("sample runs/micro --budget latency=..5ms", "JSON in UTF-8");
}

TEST_CASE("measured medians go with the table they belong to", "[experiments][latency]") {
  const TimedRun own;
  own.json_of(kProfile);
  own.json_of("search runs/micro --budget latency=..1s --evaluations 3 --algorithm random");
  const auto medians = [&] {
    const json front = own.json_of("front runs/micro");
    return std::ranges::count_if(front, [](const json& member) { return member["latency_ms"].is_number(); });
  };
  CHECK(medians() > 0);
  own.json_of(kProfile);  // measured again on this machine: they stay
  CHECK(medians() > 0);
  json other = made_table(own.table());
  other["machine"] = {{"processor", "Other"}, {"isa", "NEON"}, {"cores", 8}};
  own.folder.write("other.json", other.dump());
  own.succeed("profile runs/micro --import other.json");
  CHECK(medians() == 0);

  // Without the table nobody knows whose medians they are.
  own.json_of(kProfile);
  own.json_of("search runs/micro --budget latency=..1s --evaluations 3 --algorithm random");
  CHECK(medians() > 0);
  fs::remove(own.folder / "runs/micro/latency.json");
  own.succeed("profile runs/micro --import other.json");
  CHECK(medians() == 0);
}

TEST_CASE("a recipe may search under a latency that no table predicts yet", "[experiments][latency]") {
  const TimedRun own;
  std::string recipe = micro_recipe();
  const std::string budgets = "budgets = [\"parameters=..60%\"]";
  const std::size_t at = recipe.find(budgets);
  REQUIRE(at != std::string::npos);
  own.folder.write("fast.toml", std::string(recipe).replace(at, budgets.size(), "budgets = [\"latency=..5ms,parameters=..60%\"]"));
  CHECK_THAT(own.succeed("space fast.toml").out,
             Contains("latency=..5ms,parameters=..60%: none feasible: ") && Contains("elastiform profile"));
  own.folder.write("wrong.toml", std::string(recipe).replace(at, budgets.size(), "budgets = [\"latency=..5\"]"));
  own.refused("space wrong.toml", "search.budgets: budget latency=..5: expected a number with one of ns, us, ms, s");
}

}  // namespace elastiform
