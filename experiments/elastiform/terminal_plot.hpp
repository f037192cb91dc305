#pragma once

#include <string>
#include <utility>
#include <vector>

namespace elastiform {

/// Points that share a mark; a later series is drawn over an earlier one.
struct PlotSeries {
  char mark = '.';
  std::string label;
  std::vector<std::pair<double, double>> points;  // x, y
};

/// Points on a grid of characters with both axes labelled, at most 72 columns wide; "" when no point is finite.
std::string scatter_plot(const std::vector<PlotSeries>& series, const std::string& x_name, const std::string& y_name);

}  // namespace elastiform
