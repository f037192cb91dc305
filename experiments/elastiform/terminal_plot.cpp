#include "experiments/elastiform/terminal_plot.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "experiments/elastiform/output.hpp"

namespace elastiform {
namespace {

constexpr int kColumns = 60, kRows = 16;  // of the field; with labels and axis 72 columns

struct Span {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void see(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  int place(double value, int cells) const {
    return high > low ? static_cast<int>(std::lround((value - low) / (high - low) * (cells - 1))) : (cells - 1) / 2;
  }
};

}  // namespace

std::string scatter_plot(const std::vector<PlotSeries>& series, const std::string& x_name, const std::string& y_name) {
  Span x, y;
  for (const PlotSeries& one : series)
    for (const auto& point : one.points)
      if (std::isfinite(point.first) && std::isfinite(point.second)) {
        x.see(point.first);
        y.see(point.second);
      }
  if (!(x.high >= x.low)) return "";

  std::vector<std::string> rows(kRows, std::string(kColumns, ' '));
  std::string legend;
  for (const PlotSeries& one : series) {
    bool drawn = false;
    for (const auto& point : one.points) {
      if (!std::isfinite(point.first) || !std::isfinite(point.second)) continue;
      rows[static_cast<std::size_t>(kRows - 1 - y.place(point.second, kRows))][static_cast<std::size_t>(x.place(point.first, kColumns))] =
          one.mark;
      drawn = true;
    }
    if (drawn) legend += fmt::format("   {} {}", one.mark, one.label);
  }

  std::string text = fmt::format("{}{}\n", y_name, legend);
  for (int r = 0; r < kRows; ++r) {
    const double value = y.high - (y.high - y.low) * r / (kRows - 1);
    const std::string label = r % 5 == 0 ? fmt::format("{:.4f}", value) : "";
    std::string row = rows[static_cast<std::size_t>(r)];
    row.erase(row.find_last_not_of(' ') + 1);
    text += fmt::format("{:>9} |{}\n", label, row);
  }
  const std::string low = count_text(x.low), high = count_text(x.high) + " " + x_name;
  text += fmt::format("{:>9} +{:-<{}}\n", "", "", kColumns);
  text += fmt::format("{:>9}  {:<{}}{}\n", "", low, std::max<int>(kColumns - static_cast<int>(high.size()), 1), high);
  return text;
}

}  // namespace elastiform
