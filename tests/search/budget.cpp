#include "search/budget.hpp"

#include "tests/search/small_spaces.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"

namespace elastiform {
namespace {

std::string message_of(const std::vector<std::string>& texts, const CostModel& costs) {
  return input_error([&] { Budget::parse(texts, costs); });
}

}  // namespace

TEST_CASE("Budgets read every spelling and echo canonical ranges", "[search]") {
  const CostModel costs = plain_costs(random_space(8));
  const auto text = [&](std::vector<std::string> texts) { return Budget::parse(texts, costs).text(); };
  const std::int64_t largest = costs.of(costs.space().largest()).parameters;
  CHECK(text({}) == "");
  CHECK(text({"parameters=..2M"}) == "parameters=..2000000");
  CHECK(text({"macs=1M..3M"}) == "macs=1000000..3000000");
  CHECK(text({"macs=1.5K.."}) == "macs=1500..");
  CHECK(text({"parameters<=2M"}) == "parameters=..2000000");
  CHECK(text({"parameters>=2KiB"}) == "parameters=2048..");
  CHECK(text({" parameters = .. 2 M "}) == "parameters=..2000000");
  CHECK(text({"macs=..3M,parameters=..2M"}) == "parameters=..2000000,macs=..3000000");
  CHECK(text({"macs=..3M", "macs=..2M", "macs=1M.."}) == "macs=1000000..2000000");
  CHECK(text({"block_parameters=0..7"}) == "block_parameters=..7");
  CHECK(text({"parameters=0.."}) == "");
  // A low end is rounded up and a high end down: what is inside satisfies the limit as it was written.
  CHECK(text({"parameters=..60%"}) == "parameters=.." + std::to_string(largest * 60 / 100));
  CHECK(text({"parameters=60%.."}) == "parameters=" + std::to_string((largest * 60 + 99) / 100) + "..");
  CHECK(text({"macs=1.2345..1.2345K"}) == "macs=2..1234");
  CHECK(text({text({"macs=1M..3M,parameters=..2M"})}) == "parameters=..2000000,macs=1000000..3000000");
}

TEST_CASE("Budgets that say nothing or too much are refused in one line", "[search]") {
  const CostModel costs = plain_costs(random_space(8));
  CHECK_THAT(message_of({"parameters"}, costs), Catch::Contains("unquoted >") && Catch::Contains("parameters=..2M"));
  CHECK_THAT(message_of({"latency=..5ms"}, costs), Catch::Contains("latency") && Catch::Contains("elastiform profile"));
  CHECK_THAT(message_of({"inference_bytes=..5MiB"}, costs), Catch::Contains("cannot be limited yet"));
  CHECK_THAT(message_of({"paramters=..5"}, costs), Catch::Contains("nearest") && Catch::Contains("parameters"));
  CHECK_THAT(message_of({"parameters=2M"}, costs), Catch::Contains("..2M"));
  CHECK_THAT(message_of({"parameters=3M..2M"}, costs), Catch::Contains("3000000..2000000"));
  CHECK_THAT(message_of({"parameters=3M..", "parameters=..2M"}, costs), Catch::Contains("hold together"));
  for (const char* text : {"", ",", "parameters=", "parameters=..", "parameters=..x", "parameters=..2m", "parameters=..-5", "parameters<5",
                           "parameters=..2M,", "parameters=..1e6", "=..5", "parameters=..99999999999999999999T", "parameters=1..2..3",
                           "parameters=..1111111111111111111111111111111111111111111111111111111111"}) {
    CAPTURE(text);
    CHECK(check_input_error([&] { Budget::parse({text}, costs); }).starts_with("budget "));
  }
}

}  // namespace elastiform
