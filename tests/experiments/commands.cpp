// Right uses of the commands, each through the real program.
#include <csignal>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <set>

#include "supernet/storage/hdf5_file.hpp"
#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using nlohmann::json;

// Rows without their timings.
std::vector<json> log_of(const std::string& run) {
  std::vector<json> rows;
  std::ifstream file(run + "/training.jsonl");
  for (std::string line; std::getline(file, line);) {
    auto row = json::parse(line);
    for (const char* timing : {"seconds", "tokens_per_second", "flops_per_second"}) row.erase(timing);
    rows.push_back(row);
  }
  return rows;
}

TEST_CASE("help and version", "[experiments][commands]") {
  const auto help = run_program_in(micro_folder().path(), {"--help"});
  CHECK(help.status == 0);
  CHECK(help.err.empty());
  CHECK(help.out.find("Exit status") != std::string::npos);
  const auto train = run_program_in(micro_folder().path(), {"train", "--help"});
  CHECK(train.status == 0);
  CHECK(train.out.find("Example:\n  elastiform train ") != std::string::npos);
  const auto version = run_program_in(micro_folder().path(), {"--version"});
  CHECK(version.status == 0);
  CHECK(version.out.rfind("elastiform ", 0) == 0);
}

TEST_CASE("cost is one object with every cost", "[experiments][commands]") {
  const auto cost = json_of("cost micro.toml --subnet largest");
  CHECK(cost["subnet"] == "e32:2xh2f128");
  std::set<std::string> keys;
  for (const auto& [key, value] : cost.items()) keys.insert(key);
  CHECK(keys == std::set<std::string>{"subnet", "parameters", "block_parameters", "macs", "inference_bytes", "training_bytes"});
  // By hand: per block 2 norms of 32, four matrices 32x16, three of 32x128; embedding 256x32, final norm 32.
  CHECK(cost["block_parameters"] == 2 * (2 * 32 + 4 * 32 * 16 + 3 * 32 * 128));
  CHECK(cost["parameters"] == cost["block_parameters"].get<int>() + 256 * 32 + 32);
  CHECK(json_of("cost runs/micro --subnet largest") == cost);
  CHECK(json_of("cost micro.toml --subnet smallest")["subnet"] == "e16:h1f32");
}

TEST_CASE("sample draws inside its budget, repeatably, and every subnet when asked for all", "[experiments][commands]") {
  const auto half = json_of("sample micro.toml --budget parameters=..50% --count 5 --seed 3");
  CHECK(half["law"] == "balanced");
  REQUIRE(half["subnets"].size() == 5);
  const auto largest = json_of("cost micro.toml --subnet largest")["parameters"].get<std::int64_t>();
  for (const auto& subnet : half["subnets"]) {
    CHECK(subnet["parameters"].get<std::int64_t>() <= largest / 2);
    CHECK(json_of("cost micro.toml --subnet " + subnet["subnet"].get<std::string>()) == subnet);
  }
  CHECK(json_of("sample micro.toml --budget parameters=..50% --count 5 --seed 3") == half);
  CHECK(json_of("sample micro.toml --budget parameters=..50% --count 5 --seed 4") != half);
  // 2 widths, depth 1: 4 blocks; depth 2: 16: 40 in all.
  const auto law = GENERATE(as<std::string>{}, "balanced", "uniform");
  const auto all = json_of("sample micro.toml --count 40 --law " + law);
  CHECK(all["feasible"] == "40");
  std::set<std::string> distinct;
  for (const auto& subnet : all["subnets"]) distinct.insert(subnet["subnet"].get<std::string>());
  CHECK(distinct.size() == 40);
  CHECK(json_of("sample micro.toml --count 100 --replace")["subnets"].size() == 100);
}

TEST_CASE("space counts, and says what can be met", "[experiments][commands]") {
  const auto space = json_of("space micro.toml");
  CHECK(space["size"] == "40");
  CHECK(space["largest"]["subnet"] == "e32:2xh2f128");
  REQUIRE(space["budgets"].size() == 1);
  const auto impossible = json_of("space micro.toml --budget parameters=..10");
  CHECK(impossible["budgets"][0]["feasible"] == "0");
  CHECK(impossible["budgets"][0]["why_empty"].get<std::string>().find("nearest") != std::string::npos);
  CHECK(json_of("space micro.toml --deployable hf-llama")["budgets"][0]["feasible"] != "0");
}

TEST_CASE("training.h5 holds the rows of training.jsonl", "[experiments][commands]") {
  const auto rows = log_of(micro_folder() / "runs/micro");
  const Hdf5Reader file(micro_folder() / "runs/micro/training.h5", "training");
  const auto table = file.table("/training");
  REQUIRE(table.rows() == rows.size());
  REQUIRE(rows.size() > 1);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CHECK(table.integers("step")[i] == rows[i]["step"]);
    CHECK(table.integers("checkpoint")[i] == (rows[i]["checkpoint"] == true));
    CHECK(table.reals("loss_middle")[i] == rows[i]["loss"]["middle"]);
    CHECK(table.reals("train_loss")[i] == rows[i]["train_loss"]);
    CHECK(table.reals("rate")[i] == rows[i]["rate"]);
    CHECK(table.reals("tokens_per_second")[i] > 0);
  }
  CHECK(file.text_attribute("/", "recipe") == content_of(micro_folder() / "runs/micro/recipe.toml"));
}

TEST_CASE("a run without its text says where to name it", "[experiments][commands]") {
  const TemporaryFolder elsewhere;
  std::filesystem::copy(micro_folder() / "runs/micro", elsewhere / "moved", std::filesystem::copy_options::recursive);
  const auto lost = run_program_in(elsewhere.path(), words("evaluate moved"));
  CHECK(lost.status == 2);
  CHECK(lost.err.find("set data.text in moved/recipe.toml") != std::string::npos);
  CHECK(run_program_in(elsewhere.path(), words("cost moved")).status == 0);  // costs never open the data
  auto recipe = content_of(elsewhere / "moved/recipe.toml");
  recipe.replace(recipe.find("../../text.txt"), 14, micro_folder() / "text.txt");
  elsewhere.write("moved/recipe.toml", recipe);
  CHECK(run_program_in(elsewhere.path(), words("evaluate moved")).status == 0);
}

TEST_CASE("a dry run writes nothing", "[experiments][commands]") {
  const auto before = state_of(micro_folder().path());
  const auto plan = json_of("train micro.toml --run runs/dry --dry-run");
  CHECK(plan["steps"] == 60);
  CHECK(plan["tokens"] == 60 * 4 * 32);
  CHECK(plan["seconds"] > 0);
  CHECK(plan["activation_bytes"] < plan["activation_bytes_keeping_all"]);
  CHECK(plan["recomputed_share"] == 0);
  const auto least = plan["least_memory_bytes"].get<std::int64_t>();
  const auto limited = json_of("train micro.toml --run runs/dry --dry-run --memory-limit " + std::to_string(least));
  CHECK(limited["memory_bytes"] == least);
  CHECK(limited["activation_bytes"] < plan["activation_bytes"]);
  CHECK(limited["recomputed_share"] > 0);
  CHECK((state_of(micro_folder().path()) == before));
}

TEST_CASE("a run folder holds what the documentation says", "[experiments][train]") {
  const auto run = micro_folder() / "runs/micro";
  CHECK(content_of(run + "/recipe.toml").find("text = \"../../text.txt\"") != std::string::npos);
  CHECK((content_of(run + "/checkpoints/step-000060.h5") == content_of(run + "/supernet.h5")));
  CHECK_FALSE(content_of(run + "/checkpoints/step-000040.h5").empty());
  CHECK(content_of(run + "/checkpoints/step-000020.h5").empty());  // the last two are kept
  CHECK_FALSE(content_of(run + "/checkpoints/best.h5").empty());
  const auto rows = log_of(run);
  REQUIRE(rows.size() == 3);
  CHECK(rows[2]["step"] == 60);
  CHECK(rows[2]["tokens"] == 60 * 4 * 32);
  CHECK(rows[2]["loss"]["largest"] < 5.0);  // chance is ln 256 = 5.55: it learned something
  CHECK(rows[2]["skipped"] == 0);
}

TEST_CASE("interrupted and resumed, on other threads, is bit for bit uninterrupted", "[experiments][train]") {
  const auto& folder = micro_folder();
  const std::string options = " --set train.steps=600 --set train.log_every=10 --set train.checkpoint_every=100";
  const auto whole = run_program_in(folder.path(), words("train micro.toml --run resumed/whole --threads 2" + options));
  REQUIRE(whole.status == 0);
  bool sent = false;
  const auto part = run_program_in(folder.path(), words("train micro.toml --run resumed/part --threads 1" + options),
                                   [&](int process, const std::string& line) {
                                     if (!sent && line.rfind("step", 0) == 0) sent = ::kill(process, SIGINT) == 0;
                                   });
  CHECK(part.status == 130);
  CHECK(part.out.find("go on with: elastiform train --resume resumed/part") != std::string::npos);
  CHECK((content_of(folder / "resumed/part/supernet.h5") != content_of(folder / "resumed/whole/supernet.h5")));
  const auto rest = run_program_in(folder.path(), words("train --resume resumed/part --threads 2"));
  CHECK(rest.status == 0);
  CHECK((content_of(folder / "resumed/part/supernet.h5") == content_of(folder / "resumed/whole/supernet.h5")));
  CHECK(log_of(folder / "resumed/part") == log_of(folder / "resumed/whole"));
}

TEST_CASE("killed and resumed is bit for bit uninterrupted", "[experiments][train]") {
  const auto& folder = micro_folder();
  const std::string options = " --set train.steps=200 --set train.log_every=10 --set train.checkpoint_every=50";
  REQUIRE(run_program_in(folder.path(), words("train micro.toml --run killed/whole" + options)).status == 0);
  int rows = 0;
  const auto part =
      run_program_in(folder.path(), words("train micro.toml --run killed/part" + options), [&](int process, const std::string& line) {
        if (line.rfind("step", 0) == 0 && ++rows == 8) ::kill(process, SIGKILL);
      });
  CHECK(part.status == 128 + SIGKILL);
  CHECK(run_program_in(folder.path(), words("train --resume killed/part")).status == 0);
  CHECK((content_of(folder / "killed/part/supernet.h5") == content_of(folder / "killed/whole/supernet.h5")));
  CHECK(log_of(folder / "killed/part") == log_of(folder / "killed/whole"));
}

// The demo of the micro recipe is the right use of nearly everything; what it made is then looked at by the other commands.
TEST_CASE("the demo trains, searches, compares, exports, and the commands agree with it", "[experiments][demo]") {
  const auto& folder = micro_folder();
  const auto demo = json_of("demo --recipe micro.toml --threads 2");
  CHECK(demo["run"] == "runs/micro-2");   // runs/micro was there
  REQUIRE(demo["searches"].size() == 2);  // the recipe's budget, and what hf-llama can express of it
  REQUIRE(demo["report"].size() >= 4);
  REQUIRE(demo["exports"].size() >= 1);
  const auto run = demo["run"].get<std::string>();
  const auto before = state_of(folder / run);

  const auto front = json_of("front " + run);
  REQUIRE(front.size() >= 2);
  for (std::size_t i = 1; i < front.size(); ++i) {
    CHECK(front[i - 1]["parameters"] < front[i]["parameters"]);
    CHECK(front[i - 1]["loss"] > front[i]["loss"]);
  }
  CHECK(json_of("show " + run + " " + std::to_string(front[0]["id"].get<int>()))["subnet"] == front[0]["subnet"]);
  const auto path = demo["exports"][0]["path"].get<std::string>();
  CHECK_FALSE(json_of("inspect " + path).empty());
  CHECK(json_of("generate " + path + " --prompt ab --tokens 12")["ids"].size() == 12);
  CHECK((state_of(folder / run) == before));  // commands that only read write nothing

  const auto evaluated = json_of("evaluate " + run + " --subnet middle --split report");
  for (const char* key : {"id", "subnet", "split", "loss", "loss_se", "bits_per_byte", "tokens"}) CHECK(evaluated.contains(key));
  CHECK(evaluated["bits_per_byte"] == demo["report"][1]["bits_per_byte"]);
  CHECK(evaluated["bits_per_byte"].get<double>() == Approx(evaluated["loss"].get<double>() / 0.6931471805599453));
}

TEST_CASE("a constant schedule can be lengthened", "[experiments][train]") {
  const auto& folder = micro_folder();
  REQUIRE(
      run_program_in(folder.path(), words("train micro.toml --run longer --set train.schedule=constant --set train.warmup=0.1")).status ==
      0);
  const auto longer = json_of("train --resume longer --steps 80");
  CHECK(longer["step"] == 80);
  CHECK(longer["interrupted"] == false);
  CHECK(log_of(folder / "longer").back()["step"] == 80);
  const auto resolved = content_of(folder / "longer/recipe.toml");
  CHECK(resolved.find("steps = 18\n") != std::string::npos);  // the first stage stays, the last one grows
  CHECK(resolved.find("steps = 62\n") != std::string::npos);
  CHECK(resolved.find("warmup = 0.075\n") != std::string::npos);  // 6 steps, as before
}

}  // namespace
}  // namespace elastiform
