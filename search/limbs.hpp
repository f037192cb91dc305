#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace elastiform {

// Unsigned integers of a fixed number of 64-bit words, the lowest first, inside tables of counts. The inner loop of FeasibleSet adds some
// 10^4 products for one rank: plain words take a few ns each, a heap-allocated big integer about 60.
using Limbs = std::span<std::uint64_t>;
using ConstLimbs = std::span<const std::uint64_t>;

inline void add(Limbs sum, ConstLimbs x) {
  std::uint64_t carry = 0;
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const std::uint64_t word = i < x.size() ? x[i] : 0;
    const std::uint64_t with_carry = sum[i] + carry;
    carry = with_carry < carry ? 1 : 0;
    sum[i] = with_carry + word;
    carry += sum[i] < word ? 1 : 0;
  }
}

/// x -= y; x ≥ y.
inline void subtract(Limbs x, ConstLimbs y) {
  std::uint64_t borrow = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::uint64_t word = i < y.size() ? y[i] : 0;
    const std::uint64_t difference = x[i] - word;
    const std::uint64_t next = (x[i] < word ? 1U : 0U) + (difference < borrow ? 1U : 0U);
    x[i] = difference - borrow;
    borrow = next;
  }
}

/// Of equal lengths.
inline bool less(ConstLimbs x, ConstLimbs y) {
  for (std::size_t i = x.size(); i-- > 0;)
    if (x[i] != y[i]) return x[i] < y[i];
  return false;
}

/// Entries begin … end-1 of a table of sums.
struct Range {
  std::int64_t begin = 0, end = 0;
};

/// Σ over x of ways[x] · (sums[end] - sums[begin]), with ranges[x] - shift clamped to 0 … whole: the inner loop of every count.
struct CountRow {
  const std::uint64_t* ways;  // one number per x
  const std::uint64_t* sums;  // whole + 1 numbers, ascending
  std::span<const Range> ranges;
  std::int64_t shift = 0, whole = 0;

  /// count has at least as many words as the two kinds of numbers together, and room for the result.
  void add_to(Limbs count, std::size_t ways_limbs, std::size_t sums_limbs) const {
    // Numbers of known length stay in registers: 2.5 times the speed of loops over lengths.
    if (ways_limbs == 1 && sums_limbs == 1) return add_fixed<1, 1>(count);
    if (ways_limbs == 1 && sums_limbs == 2) return add_fixed<1, 2>(count);
    if (ways_limbs == 2 && sums_limbs == 1) return add_fixed<2, 1>(count);
    if (ways_limbs == 2 && sums_limbs == 2) return add_fixed<2, 2>(count);
    for (std::size_t x = 0; x < ranges.size(); ++x) {
      const std::int64_t begin = clamped(ranges[x].begin), end = clamped(ranges[x].end);
      if (begin >= end) continue;
      const auto at = [&](std::int64_t i) { return ConstLimbs{sums + static_cast<std::size_t>(i) * sums_limbs, sums_limbs}; };
      add_product(count, {ways + x * ways_limbs, ways_limbs}, at(end), at(begin));
    }
  }

 private:
  std::int64_t clamped(std::int64_t i) const { return std::clamp<std::int64_t>(i - shift, 0, whole); }

  /// sum += a · (high - low), high ≥ low.
  static void add_product(Limbs sum, ConstLimbs a, ConstLimbs high, ConstLimbs low) {
    __extension__ using Wide = unsigned __int128;
    std::uint64_t borrow = 0;
    for (std::size_t j = 0; j < high.size(); ++j) {
      const std::uint64_t difference = high[j] - low[j], word = difference - borrow;
      borrow = (high[j] < low[j] ? 1U : 0U) + (difference < borrow ? 1U : 0U);
      std::uint64_t carry = 0;
      std::size_t i = 0;
      for (; i < a.size(); ++i) {
        const Wide product = static_cast<Wide>(a[i]) * word + sum[i + j] + carry;
        sum[i + j] = static_cast<std::uint64_t>(product);
        carry = static_cast<std::uint64_t>(product >> 64);
      }
      for (; carry != 0 && i + j < sum.size(); ++i) {
        sum[i + j] += carry;
        carry = sum[i + j] < carry ? 1 : 0;
      }
    }
  }

  template <std::size_t A, std::size_t B>
  void add_fixed(Limbs count) const {
    __extension__ using Wide = unsigned __int128;
    const auto number = [](const std::uint64_t* words, std::size_t limbs) {
      return limbs == 1 ? Wide{words[0]} : Wide{words[1]} << 64 | words[0];
    };
    std::array<std::uint64_t, A + B> sum{};
    for (std::size_t x = 0; x < ranges.size(); ++x) {
      const std::int64_t begin = clamped(ranges[x].begin), end = clamped(ranges[x].end);
      if (begin >= end) continue;
      const Wide difference = number(sums + static_cast<std::size_t>(end) * B, B) - number(sums + static_cast<std::size_t>(begin) * B, B);
      const std::array<std::uint64_t, 2> factor = {static_cast<std::uint64_t>(difference), static_cast<std::uint64_t>(difference >> 64)};
      for (std::size_t j = 0; j < B; ++j) {
        Wide carry = 0;
        for (std::size_t i = 0; i < A; ++i) {
          carry += static_cast<Wide>(ways[x * A + i]) * factor[j] + sum[i + j];
          sum[i + j] = static_cast<std::uint64_t>(carry);
          carry >>= 64;
        }
        for (std::size_t i = A + j; i < A + B; ++i) {
          carry += sum[i];
          sum[i] = static_cast<std::uint64_t>(carry);
          carry >>= 64;
        }
      }
    }
    add(count, sum);
  }
};

}  // namespace elastiform
