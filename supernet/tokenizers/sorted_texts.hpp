#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace elastiform {

/// The range of sorted texts that begin with each byte.
using FirstBytes = std::array<std::pair<std::size_t, std::size_t>, 256>;

/// Sorts entries by their member `text`, which is nowhere empty.
template <class Entry>
FirstBytes sort_by_text(std::vector<Entry>& entries) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.text < b.text; });
  FirstBytes begins{};
  for (std::size_t i = 0; i < entries.size(); ++i) {
    auto& [begin, end] = begins[static_cast<unsigned char>(entries[i].text.front())];
    if (end == 0) begin = i;
    end = i + 1;
  }
  return begins;
}

/// Entries that `text`, which is not empty, begins with, shortest first: the range of those that agree so far is narrowed byte by byte.
template <class Entry, class Found>
void each_match(const std::vector<Entry>& entries, const FirstBytes& begins, std::string_view text, const Found& found) {
  const auto byte_at = [](const Entry& entry, std::size_t at) { return static_cast<unsigned char>(entry.text[at]); };
  auto [low, high] = begins[static_cast<unsigned char>(text.front())];
  for (std::size_t depth = 1; low < high; ++depth) {
    if (entries[low].text.size() == depth) found(entries[low++]);
    if (depth == text.size()) return;
    const auto wanted = static_cast<unsigned char>(text[depth]);
    const auto begin = entries.begin() + static_cast<std::ptrdiff_t>(low), end = entries.begin() + static_cast<std::ptrdiff_t>(high);
    const auto first = std::partition_point(begin, end, [&](const Entry& entry) { return byte_at(entry, depth) < wanted; });
    const auto last = std::partition_point(first, end, [&](const Entry& entry) { return byte_at(entry, depth) == wanted; });
    low = static_cast<std::size_t>(first - entries.begin());
    high = static_cast<std::size_t>(last - entries.begin());
  }
}

}  // namespace elastiform
