#include "experiments/elastiform/terminal_plot.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "tests/support/catch.hpp"

namespace elastiform {

TEST_CASE("A plot keeps 72 columns, places its corners and leaves out what is no number", "[experiments]") {
  const std::string plot =
      scatter_plot({{'.', "low", {{0, 0}, {NAN, 1}, {50, INFINITY}}}, {'X', "high", {{100'000'000, 9}}}}, "parameters", "bits/byte");
  std::istringstream lines(plot);
  std::vector<std::string> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(line);
  REQUIRE(rows.size() == 19);  // title, 16 rows, axis, labels
  for (const std::string& row : rows) CHECK(row.size() <= 72);
  CHECK(rows[1].back() == 'X');
  CHECK(rows[1].size() == 71);
  CHECK(rows[16] == "   0.0000 |.");
  CHECK(std::ranges::count(plot, 'X') == 2);  // the point and its place in the legend
}

TEST_CASE("A plot of one point or of none", "[experiments]") {
  CHECK(scatter_plot({}, "x", "y").empty());
  CHECK(scatter_plot({{'.', "nothing", {{NAN, 1}}}}, "x", "y").empty());
  CHECK(std::ranges::count(scatter_plot({{'*', "one", {{3, 4}}}}, "x", "y"), '*') == 2);
}

}  // namespace elastiform
