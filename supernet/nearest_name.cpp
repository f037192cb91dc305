#include "supernet/nearest_name.hpp"

#include <algorithm>
#include <cctype>

namespace elastiform {
namespace {

constexpr std::size_t kLongest = 256;

std::string folded(std::string_view text) {
  std::string lower(text.substr(0, kLongest));
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

// Optimal string alignment distance: a swap of neighbours, the commonest typo, counts once.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const bool same = a[i - 1] == b[j - 1];
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string nearest_name(std::string_view name, const std::vector<std::string_view>& known) {
  const std::string wanted = folded(name);
  std::string best;
  std::size_t least = 0;
  for (const std::string_view candidate : known) {
    const std::size_t distance = edit_distance(wanted, folded(candidate));
    if (best.empty() || distance < least) {
      best = candidate;
      least = distance;
    }
  }
  return best;
}

InputError unknown_name(std::string where, std::string_view name, const std::vector<std::string_view>& known) {
  const std::string nearest = nearest_name(name, known);
  return InputError({.where = std::move(where),
                     .expected = "one of " + list_of(std::vector<std::string>(known.begin(), known.end()), known.size()),
                     .found = "'" + std::string(name.substr(0, kLongest)) + "'",
                     .remedy = nearest.empty() ? "" : "nearest " + nearest});
}

std::string list_of(const std::vector<std::string>& items, std::size_t most) {
  std::string text;
  for (std::size_t i = 0; i < std::min(items.size(), most); ++i) text += (i ? ", " : "") + items[i];
  if (items.size() > most) text += ", … (" + std::to_string(items.size()) + " in all)";
  return text;
}

std::string list_of(const std::vector<int>& items, std::size_t most) {
  std::vector<std::string> texts;
  for (const int item : items) texts.push_back(std::to_string(item));
  return list_of(texts, most);
}

}  // namespace elastiform
