// `elastiform methods`: every registry is listed, with lines that a recipe takes.
#include <nlohmann/json.hpp>

#include "experiments/elastiform/method_list.hpp"
#include "experiments/elastiform/recipe.hpp"
#include "tests/experiments/program.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {

using Catch::Matchers::Contains;

TEST_CASE("methods lists what recipes can choose, with where it comes from", "[experiments][methods]") {
  const ProgramResult all = run_program_in(".", words("methods --json"));
  REQUIRE(all.status == 0);
  const auto list = nlohmann::json::parse(all.out);
  bool lion = false;
  for (const auto& one : list) {
    CHECK(one["help"].get<std::string>().find("(arXiv") == std::string::npos);  // it stands in `source`
    lion = lion || (one["key"] == "train.optimizer" && one["value"] == "lion" && one["source"] == "arXiv 2302.06675");
  }
  CHECK(lion);
  const ProgramResult some = run_program_in(".", words("methods --of train.step_rule"));
  CHECK_THAT(some.out, Contains("looksam") && !Contains("lion"));
  const ProgramResult none = run_program_in(".", words("methods --of train.optimizr"));
  CHECK(none.status == 2);
  CHECK_THAT(none.err, Contains("nearest train.optimizer"));
}

TEST_CASE("a recipe takes every line of the list that stands for one key alone", "[experiments][methods]") {
  constexpr const char* kRecipe = "data = { text = \"text.txt\" }\nspace = { embed = [16], depth = [1], heads = [1], ffn_ratio = [1] }\n";
  const std::string key = GENERATE("train.optimizer", "train.step_rule", "train.schedule", "train.precision");
  for (const Method& method : methods_of(key)) {
    INFO(method.line());
    const Recipe recipe = Recipe::parse(kRecipe, "one.toml", {method.key + "=" + method.value});
    CHECK(recipe.text().find(method.key.substr(6) + " = \"" + method.value + '"') != std::string::npos);
  }
}

}  // namespace elastiform
