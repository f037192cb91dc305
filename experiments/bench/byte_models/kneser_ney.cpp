#include "experiments/bench/byte_models/kneser_ney.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace elastiform {
namespace {

// The last k bytes of a sequence as a number whose order is that of the bytes.
std::uint64_t pack(ByteSpan bytes) {
  std::uint64_t key = 0;
  for (const std::uint8_t byte : bytes) key = key << 8 | byte;
  return key;
}

std::uint64_t low_bytes(std::uint64_t key, int count) { return count >= 8 ? key : key & ((std::uint64_t{1} << (8 * count)) - 1); }

// Sorted keys → each once, with how often it stood there.
void count_runs(const std::vector<std::uint64_t>& sorted, std::vector<std::uint64_t>& keys, std::vector<std::uint32_t>& counts) {
  for (const std::uint64_t key : sorted) {
    if (keys.empty() || keys.back() != key) {
      keys.push_back(key);
      counts.push_back(0);
    }
    ++counts.back();
  }
}

// Chen and Goodman's estimates from t[i], the number of grams seen i times. Where a text is too small or too regular to have them (all
// bytes of a book are seen often), half a count: any value in (0, 1) gives a proper distribution.
std::array<double, 4> discounts(const std::vector<std::uint32_t>& counts) {
  std::array<double, 5> t{};
  for (const std::uint32_t count : counts)
    if (count < t.size()) ++t[count];
  std::array<double, 4> discount{0, 0.5, 0.5, 0.5};
  const double y = t[1] + 2 * t[2] > 0 ? t[1] / (t[1] + 2 * t[2]) : 0;
  for (std::size_t i = 1; i <= 3; ++i) {
    const double n = static_cast<double>(i);
    if (t[i] > 0 && t[i + 1] > 0) discount[i] = std::clamp(n - (n + 1) * y * t[i + 1] / t[i], 0.0, n);
  }
  return discount;
}

}  // namespace

void KneserNey::Level::finish() {
  discount = discounts(counts);
  for (std::size_t i = 0; i < grams.size(); ++i) {
    if (contexts.empty() || contexts.back() != grams[i] >> 8) {
      contexts.push_back(grams[i] >> 8);
      first.push_back(static_cast<std::uint32_t>(i));
      total.push_back(0);
      left_over.push_back(0);
    }
    total.back() += counts[i];
    left_over.back() += discount[std::min<std::size_t>(counts[i], 3)];
  }
  first.push_back(static_cast<std::uint32_t>(grams.size()));
  for (std::size_t i = 0; i < contexts.size(); ++i) left_over[i] /= total[i];
}

double KneserNey::Level::blend(std::uint64_t context, std::uint8_t next, double lower) const {
  const auto place = std::lower_bound(contexts.begin(), contexts.end(), context);
  if (place == contexts.end() || *place != context) return lower;
  const auto i = static_cast<std::size_t>(place - contexts.begin());
  const auto end = grams.begin() + first[i + 1];
  const auto gram = std::lower_bound(grams.begin() + first[i], end, context << 8 | next);
  double seen = 0;
  if (gram != end && *gram == (context << 8 | next)) {
    const std::uint32_t count = counts[static_cast<std::size_t>(gram - grams.begin())];
    seen = (count - discount[std::min<std::uint32_t>(count, 3)]) / total[i];
  }
  return seen + left_over[i] * lower;
}

KneserNey::Level KneserNey::raw_level(const std::vector<ByteSpan>& training, int k) {
  std::vector<std::uint64_t> all;
  std::size_t size = 0;
  for (const ByteSpan stretch : training) size += stretch.size();
  all.reserve(size);
  const auto length = static_cast<std::size_t>(k);
  for (const ByteSpan stretch : training)
    for (std::size_t i = 0; i + length <= stretch.size(); ++i) all.push_back(pack(stretch.subspan(i, length)));
  std::sort(all.begin(), all.end());
  Level level;
  count_runs(all, level.grams, level.counts);
  level.finish();
  return level;
}

KneserNey::Level KneserNey::continuation_level(const Level& longer, int k) {
  std::vector<std::uint64_t> endings;
  endings.reserve(longer.grams.size());
  for (const std::uint64_t gram : longer.grams) endings.push_back(low_bytes(gram, k));
  std::sort(endings.begin(), endings.end());
  Level level;
  count_runs(endings, level.grams, level.counts);
  level.finish();
  return level;
}

KneserNey::KneserNey(const std::vector<ByteSpan>& training, int max_order) {
  if (max_order < 1 || max_order > kMaxOrder) throw std::logic_error("Kneser-Ney order " + std::to_string(max_order) + " is not 1 to 8");
  for (int n = 1; n <= max_order; ++n) {
    highest_.push_back(raw_level(training, n));
    if (n > 1) lower_.push_back(continuation_level(highest_.back(), n - 1));
  }
}

double KneserNey::probability(int order, ByteSpan context, std::uint8_t next) const {
  const int usable = static_cast<int>(std::min<std::size_t>(context.size(), static_cast<std::size_t>(order - 1)));
  const std::uint64_t history = pack(context.last(static_cast<std::size_t>(usable)));
  double p = 1.0 / 256;
  for (int k = 1; k <= usable + 1; ++k) {
    const Level& level = k == order ? highest_[static_cast<std::size_t>(k - 1)] : lower_[static_cast<std::size_t>(k - 1)];
    p = level.blend(low_bytes(history, k - 1), next, p);
  }
  return p;
}

double KneserNey::bits(int order, ByteSpan stretch) const {
  double sum = 0;
  for (std::size_t i = 1; i < stretch.size(); ++i) sum -= std::log2(probability(order, stretch.first(i), stretch[i]));
  return sum;
}

std::int64_t KneserNey::grams(int order) const {
  std::size_t count = highest_[static_cast<std::size_t>(order - 1)].grams.size();
  for (int k = 1; k < order; ++k) count += lower_[static_cast<std::size_t>(k - 1)].grams.size();
  return static_cast<std::int64_t>(count);
}

}  // namespace elastiform
