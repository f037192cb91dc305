#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>

#include "kernels/errors.hpp"
#include "supernet/data/byte_source.hpp"
#include "supernet/data/image_set.hpp"

namespace elastiform {
namespace {

constexpr std::size_t kLongestLine = 1 << 26;

/// Lines of a file, one at a time.
class Lines {
 public:
  explicit Lines(const std::string& path) : source_(path), buffer_(1 << 16) {}
  std::int64_t number() const { return number_; }
  std::string where() const { return source_.path() + ": line " + std::to_string(number_); }

  bool next(std::string& line) {
    line.clear();
    ++number_;
    for (;;) {
      if (at_ == end_) {
        at_ = 0, end_ = source_.read(buffer_);
        if (end_ == 0) return !line.empty();
      }
      const auto* begin = reinterpret_cast<const char*>(buffer_.data()) + at_;
      const std::string_view rest(begin, end_ - at_);
      const auto stop = rest.find('\n');
      line.append(rest.substr(0, stop));
      at_ = stop == std::string_view::npos ? end_ : at_ + stop + 1;
      if (line.size() > kLongestLine)
        throw InputError({.where = where(), .expected = "a line of at most 64 MiB", .found = "a longer one", .remedy = ""});
      if (stop == std::string_view::npos) continue;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return true;
    }
  }

 private:
  ByteSource source_;
  std::vector<std::uint8_t> buffer_;
  std::size_t at_ = 0, end_ = 0;
  std::int64_t number_ = 0;
};

std::string_view trimmed(std::string_view field) {
  while (!field.empty() && (field.front() == ' ' || field.front() == '"')) field.remove_prefix(1);
  while (!field.empty() && (field.back() == ' ' || field.back() == '"')) field.remove_suffix(1);
  return field;
}

bool read_number(std::string_view field, double& value) {
  field = trimmed(field);
  const auto [stop, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  return error == std::errc() && stop == field.data() + field.size() &&
         std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max());  // no NaN either
}

/// Names of columns: not one of them is a number.
bool is_header(std::string_view line) {
  for (;;) {
    const auto end = line.find(',');
    double ignored = 0;
    if (read_number(line.substr(0, end), ignored)) return false;
    if (end == std::string_view::npos) return true;
    line.remove_prefix(end + 1);
  }
}

/// The numbers of a line; the first field that is none is refused.
void read_row(const Lines& lines, std::string_view line, std::vector<double>& row) {
  row.clear();
  for (std::size_t begin = 0;;) {
    const auto end = line.find(',', begin);
    double value = 0;
    const std::string_view field = line.substr(begin, end - begin);
    if (!read_number(field, value))
      throw InputError({.where = lines.where() + ", column " + std::to_string(row.size() + 1),
                        .expected = "a number",
                        .found = "'" + std::string(field.substr(0, 40)) + "'",
                        .remedy = ""});
    row.push_back(value);
    if (end == std::string_view::npos) return;
    begin = end + 1;
  }
}

/// Values go where bytes suffice until one does not fit.
void append(ImageSet& set, double value) {
  const bool fits = value >= 0 && value <= 255 && value == std::floor(value);
  if (set.floats.empty() && fits) return set.bytes.push_back(static_cast<std::uint8_t>(value));
  if (set.floats.empty()) {
    set.floats.assign(set.bytes.begin(), set.bytes.end());
    set.bytes = {};
  }
  set.floats.push_back(static_cast<float>(value));
}

std::int32_t label_of(const Lines& lines, double value) {
  if (value != std::floor(value) || std::abs(value) > 1e9)
    throw InputError({.where = lines.where(),
                      .expected = "a whole number as class",
                      .found = std::to_string(value),
                      .remedy = "data.label_column says where it stands"});
  return static_cast<std::int32_t>(value);
}

}  // namespace

ImageSet read_csv(const std::string& path, bool labelled, bool label_first, const ImageShape& shape) {
  Lines lines(path);
  ImageSet set;
  std::string line;
  std::vector<double> row;
  const auto values = static_cast<std::size_t>(shape.values());
  while (lines.next(line)) {
    if (trimmed(line).empty() || (lines.number() == 1 && is_header(line))) continue;
    const auto columns = static_cast<std::size_t>(std::count(line.begin(), line.end(), ',')) + 1;  // before any of them is stored
    const bool with_class = columns == values + 1;
    if (!with_class && (labelled || columns != values))
      throw InputError({.where = lines.where(),
                        .expected = std::to_string(values + (labelled ? 1 : 0)) + " columns, " + std::to_string(values) + " of " +
                                    std::to_string(shape.height) + " x " + std::to_string(shape.width) + " x " +
                                    std::to_string(shape.channels) + (labelled ? " and the class" : ""),
                        .found = std::to_string(columns),
                        .remedy = "model.image says how large an image is"});
    read_row(lines, line, row);
    const std::size_t first = with_class && label_first ? 1 : 0;
    for (std::size_t i = 0; i < values; ++i) append(set, row[first + i]);
    if (labelled) set.labels.push_back(label_of(lines, label_first ? row.front() : row.back()));
    ++set.count;
  }
  return set;
}

}  // namespace elastiform
