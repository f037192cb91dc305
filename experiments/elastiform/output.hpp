#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace elastiform {

// Numbers as a person reads them: every one with its unit.
std::string bytes_text(double bytes);     // "12.3 MiB"
std::string count_text(double count);     // "1.23 M", "456"
std::string grouped(std::string digits);  // "1,234,567"; of any length
std::string grouped(std::int64_t value);
std::string duration_text(double seconds);   // "41 s", "3 min 20 s", "2 h 5 min"
std::string time_text(double milliseconds);  // "3.210 ms", "412.0 us"

/// Where text for a person goes: stdout, or stderr when stdout carries a JSON document.
std::FILE* text_stream(bool json);

/// A table with a header line; the first column is left-aligned, the others right-aligned.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string text() const;
  std::string markdown() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// How far a long loop is: on a terminal one line with a bar and the time left, rewritten at most ten times a second; elsewhere a plain line
/// at every tenth. Goes to stderr when `json`.
class Progress {
 public:
  Progress(bool json, std::string label);
  ~Progress();  // clears the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// `note`: what stands behind the bar, e.g. "12,345 tokens/s".
  void update(std::int64_t done, std::int64_t total, std::string_view note = "");
  /// A line of its own: the bar makes room for it.
  void line(std::string_view text);
  bool on_terminal() const { return terminal_; }

 private:
  void clear();
  std::FILE* stream_;
  bool terminal_;
  std::string label_;
  double began_, drawn_ = 0;
  std::int64_t first_ = -1, tenths_ = 0;
  bool visible_ = false;
};

/// A JSON object that keeps the order of its keys. Numbers that are not finite become null.
class JsonObject {
 public:
  JsonObject& add(std::string_view key, std::string_view value);
  JsonObject& add(std::string_view key, const char* value) { return add(key, std::string_view(value)); }
  JsonObject& add(std::string_view key, double value);
  JsonObject& add(std::string_view key, std::int64_t value);
  JsonObject& add(std::string_view key, int value) { return add(key, static_cast<std::int64_t>(value)); }
  JsonObject& add(std::string_view key, bool value);
  JsonObject& add_json(std::string_view key, std::string_view json);  // a value that is JSON already
  std::string text() const { return "{" + body_ + "}"; }

 private:
  std::string body_;
};
std::string json_list(const std::vector<std::string>& items);  // of JSON values
std::string json_text(std::string_view text);                  // quoted and escaped; bytes that are no UTF-8 become U+FFFD

}  // namespace elastiform
