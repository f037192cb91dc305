#include <nlohmann/json.hpp>

#include "tests/experiments/program.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("a search with many homogeneous rivals takes some and says so; alone, all of them are evaluated", "[experiments][search]") {
  const auto& folder = micro_folder();
  // 2 widths · 2 depths · 2 head counts · 40 FFN widths.
  std::string widths;
  for (int width = 1; width <= 40; ++width) widths += (widths.empty() ? "" : ", ") + std::to_string(8 * width);
  auto recipe = micro_recipe();
  const std::string line = "ffn_ratio = [2, 4]";
  recipe.replace(recipe.find(line), line.size(), "ffn = [" + widths + "]");
  folder.write("many.toml", recipe);
  REQUIRE(run_program_in(folder.path(), words("train many.toml --set train.steps=2 --set search.segments=1")).status == 0);
  const auto searched = run_program_in(folder.path(), words("search runs/many --budget parameters=1.. --evaluations 6 --json"));
  INFO(searched.err);
  REQUIRE(searched.status == 0);
  CHECK_THAT(searched.err, Contains("homogeneous: 256 of them, evenly spaced"));
  const auto outcome = nlohmann::json::parse(searched.out)[0];
  CHECK(outcome["homogeneous"] == 256);
  CHECK(outcome["evaluations"] < 20);
  const auto all = run_program_in(folder.path(), words("search runs/many --budget parameters=1.. --algorithm homogeneous --json"));
  REQUIRE(all.status == 0);
  CHECK(nlohmann::json::parse(all.out)[0]["homogeneous"] == 320);
}

}  // namespace
}  // namespace elastiform
