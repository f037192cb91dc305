#include "experiments/elastiform/output.hpp"
#include "kernels/collectives/mpi.hpp"
#include "supernet/formats/json.hpp"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace elastiform {
namespace {

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Three significant digits: what a person compares.
std::string three_digits(double value) {
  const double size = std::abs(value);
  return size >= 99.95 ? fmt::format("{:.0f}", value) : size >= 9.995 ? fmt::format("{:.1f}", value) : fmt::format("{:.2f}", value);
}

std::string scaled(double value, double step, const std::vector<std::string>& units) {
  std::size_t unit = 0;
  while (unit + 1 < units.size() && std::abs(value) >= step * 0.9995) value /= step, ++unit;
  const auto digits = unit == 0 ? fmt::format("{:.0f}", value) : three_digits(value);
  return units[unit].empty() ? digits : digits + " " + units[unit];
}

std::size_t terminal_width(std::FILE* stream) {
  winsize size{};
  return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string bytes_text(double bytes) { return scaled(bytes, 1024, {"bytes", "KiB", "MiB", "GiB", "TiB"}); }

std::string count_text(double count) { return scaled(count, 1000, {"", "K", "M", "G", "T", "P"}); }

std::string grouped(std::string digits) {
  const std::size_t first = !digits.empty() && digits[0] == '-' ? 1 : 0;
  for (std::size_t i = digits.size(); i > first + 3;) digits.insert(i -= 3, ",");
  return digits;
}

std::string grouped(std::int64_t value) { return grouped(std::to_string(value)); }

std::string time_text(double milliseconds) {
  return milliseconds < 1 ? fmt::format("{:.1f} us", 1000 * milliseconds) : fmt::format("{:.3f} ms", milliseconds);
}

std::string duration_text(double seconds) {
  if (!(seconds >= 0)) return "?";
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(std::min(seconds, 1e12)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::FILE* text_stream(bool json) { return json ? stderr : stdout; }

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c)
      line += c == 0 ? fmt::format("{:<{}}", row[c], widths[c]) : fmt::format("  {:>{}}", row[c], widths[c]);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string Table::markdown() const {
  std::string text;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    text += "|";
    for (const std::string& cell : rows_[r]) text += " " + cell + " |";
    text += "\n";
    if (r > 0) continue;
    text += "|";
    for (std::size_t c = 0; c < rows_[r].size(); ++c) text += "---|";
    text += "\n";
  }
  return text;
}

Progress::Progress(bool json, std::string label)
    // mpirun gives its processes a terminal whatever it writes to itself.
    : stream_(text_stream(json)), terminal_(isatty(fileno(stream_)) != 0 && !launched()), label_(std::move(label)), began_(seconds_now()) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (visible_) fmt::print(stream_, "\r\x1b[K");
  visible_ = false;
  std::fflush(stream_);
}

void Progress::update(std::int64_t done, std::int64_t total, std::string_view note) {
  const double now = seconds_now();
  if (first_ < 0) first_ = done, began_ = now, tenths_ = total > 0 ? done * 10 / total : 0;  // a resumed loop does not begin at 0
  const double left = done > first_ ? (now - began_) / static_cast<double>(done - first_) * static_cast<double>(total - done) : NAN;
  const auto tail = fmt::format("{}/{}{}{}{}", grouped(done), grouped(total), note.empty() ? "" : "  ", note,
                                done > first_ && done < total ? "  " + duration_text(left) + " left" : "");
  if (terminal_) {
    if (now - drawn_ < 0.1 && done < total) return;
    drawn_ = now;
    constexpr std::int64_t kBar = 24;
    const auto full = total > 0 ? std::clamp<std::int64_t>(done * kBar / total, 0, kBar) : 0;
    const auto text = fmt::format("{} [{:=<{}}{: <{}}] {}", label_, "", full, "", kBar - full, tail);
    fmt::print(stream_, "\r\x1b[K{}", text.substr(0, terminal_width(stream_) - 1));
    visible_ = true;
    std::fflush(stream_);
  } else if (total > 0 && done * 10 / total > tenths_) {
    tenths_ = done * 10 / total;
    line(label_ + " " + tail);
  }
}

void Progress::line(std::string_view text) {
  clear();
  fmt::print(stream_, "{}\n", text);
  std::fflush(stream_);
}

std::string json_text(std::string_view text) {
  return nlohmann::json(std::string(text)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

JsonObject& JsonObject::add_json(std::string_view key, std::string_view json) {
  if (!body_.empty()) body_ += ", ";
  body_ += json_text(key) + ": ";
  body_ += json;
  return *this;
}

JsonObject& JsonObject::add(std::string_view key, std::string_view value) { return add_json(key, json_text(value)); }
JsonObject& JsonObject::add(std::string_view key, double value) {
  return add_json(key,
                  std::isfinite(value) ? fmt::format("{}", value) : "null");  // fmt's default is the shortest text that reads back equal
}
JsonObject& JsonObject::add(std::string_view key, std::int64_t value) { return add_json(key, std::to_string(value)); }
JsonObject& JsonObject::add(std::string_view key, bool value) { return add_json(key, value ? "true" : "false"); }

std::string json_list(const std::vector<std::string>& items) {
  std::string text = "[";
  for (const auto& item : items) text += (text.size() > 1 ? ", " : "") + item;
  return text + "]";
}

}  // namespace elastiform
