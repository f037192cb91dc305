// --weights ema through the commands that take it.
#include <nlohmann/json.hpp>

#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Contains;
using nlohmann::json;

std::string with_lines_after(const std::string& recipe, const std::string& line, const std::string& more) {
  std::string text = recipe;
  const auto at = text.find(line);
  REQUIRE(at != std::string::npos);
  return text.insert(at + line.size(), more);
}

/// A run with a running average.
struct AveragedRun : OwnFolder {
  AveragedRun() {
    write_micro(folder, with_lines_after(micro_recipe(), "sequences = 4\n", "ema = 0.9\naccumulation = 2\nnoise_scale = true\n"));
    CHECK(text_of("train micro.toml").find("noise scale -") == std::string::npos);
  }
  std::string text_of(const std::string& line) const { return succeed(line).out; }
};

}  // namespace

TEST_CASE("search, front, show, generate and export of a run's running average", "[experiments][average]") {
  const AveragedRun own;
  CHECK_THAT(own.text_of("front runs/micro --weights ema"), Contains("no evaluation of the weights' running average yet: elastiform search "
                                                                     "runs/micro --weights ema"));
  own.json_of("search runs/micro --weights ema");
  const json average = own.json_of("front runs/micro --weights ema");
  REQUIRE_FALSE(average.empty());
  CHECK(own.json_of("front runs/micro").empty());
  CHECK_THAT(own.text_of("front runs/micro --weights ema"), Contains("evaluations of the weights' running average are on the front"));
  CHECK_THAT(own.text_of("front runs/micro"), Contains("no evaluation of the current weights yet: elastiform search runs/micro\n"));

  const json trained = own.json_of("evaluate runs/micro --subnet largest");
  CHECK(trained["weights_hash"] != average[0]["weights_hash"]);
  const auto shown = [&](const json& evaluation) { return own.text_of("show runs/micro " + std::to_string(evaluation["id"].get<int>())); };
  CHECK_THAT(shown(average[0]), Contains("(the running average)\n") && !Contains("stale"));
  CHECK_THAT(shown(trained), !Contains("running average") && !Contains("stale"));

  const std::string line = " --tokens 40 --prompt the";
  CHECK(own.text_of("export runs/micro --subnet largest --format hf-llama --to plain").find("plain") != std::string::npos);
  own.text_of("export runs/micro --subnet largest --format hf-llama --weights ema --to averaged");
  CHECK_THAT(content_of(own.folder / "averaged/README.md"), Contains("- weights: the running average of"));
  CHECK_THAT(content_of(own.folder / "plain/README.md"), !Contains("running average"));
  const json ids = own.json_of("generate runs/micro --weights ema" + line)["ids"];
  CHECK(ids == own.json_of("generate averaged" + line)["ids"]);
  CHECK(own.json_of("generate runs/micro" + line)["ids"] == own.json_of("generate plain" + line)["ids"]);
}

TEST_CASE("a running average is refused where there is none", "[experiments][average][wrong]") {
  const TemporaryFolder& folder = micro_folder();
  for (const char* line : {"front runs/micro --weights ema", "generate runs/micro --weights ema --prompt a"}) {
    const ProgramResult result = check_refused(folder.path(), words(line), "a running average of the weights");
    CHECK_THAT(result.err, Contains("train.ema"));
  }
}

}  // namespace elastiform
