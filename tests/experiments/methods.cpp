// `elastiform methods`: every registry is listed, with lines that a recipe takes.
#include <nlohmann/json.hpp>

#include "experiments/elastiform/method_list.hpp"
#include "experiments/elastiform/recipe.hpp"
#include "kernels/errors.hpp"
#include "tests/experiments/own_run.hpp"
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
  check_refused(".", words("methods --of train.optimizr"), "nearest train.optimizer");
}

TEST_CASE("a recipe takes every line of the list that stands for one key alone", "[experiments][methods]") {
  constexpr const char* kRecipe = "data = { text = \"text.txt\" }\nspace = { embed = [16], depth = [3], heads = [1], ffn_ratio = [1] }\n";
  const std::string key = GENERATE("train.init", "train.optimizer", "train.step_rule", "train.schedule", "train.precision");
  for (const Method& method : methods_of(key)) {
    INFO(method.line());
    const Recipe recipe = Recipe::parse(kRecipe, "one.toml", {method.key + "=" + method.value});
    CHECK(recipe.text().find(method.key.substr(6) + " = \"" + method.value + '"') != std::string::npos);
  }
}

TEST_CASE("a resolved recipe that another one begins with does not stand in the way of what is chosen", "[experiments][methods][recipe]") {
  constexpr const char* kRecipe = "data = { text = \"text.txt\" }\nspace = { embed = [16], depth = [3], heads = [1], ffn_ratio = [1] }\n";
  const std::string key = GENERATE("train.init", "train.optimizer", "train.step_rule", "train.schedule", "train.precision", "train.tokens");
  for (const Method& first : methods_of(key))
    for (const Method& second : methods_of(key)) {
      INFO(first.line() << ", then " << second.line());
      const std::string resolved = Recipe::parse(kRecipe, "one.toml", {key + "=" + first.value}).text();
      CHECK(Recipe::parse(resolved, "two.toml", {key + "=" + second.value}, true).text().find(second.value) != std::string::npos);
    }
  // What is typed beside it still is a mistake.
  const std::string resolved = Recipe::parse(kRecipe, "one.toml").text();
  CHECK_THROWS_AS(Recipe::parse(resolved, "two.toml", {"train.schedule=constant", "train.cooldown=0.2"}, true), InputError);
}

}  // namespace elastiform
