#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace elastiform {

// Unsigned integers of a fixed number of 64-bit words, the lowest first, inside tables of counts. The inner loop of FeasibleSet adds some
// 10^4 products for one rank: plain words take 4 ns each, where a heap-allocated big integer takes about 60.
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

/// sum += a · (high - low); sum has at least a.size() + high.size() words and room for the result, high ≥ low.
inline void add_product(Limbs sum, ConstLimbs a, ConstLimbs high, ConstLimbs low) {
  __extension__ using Wide = unsigned __int128;
  std::uint64_t borrow = 0;
  for (std::size_t j = 0; j < high.size(); ++j) {
    const std::uint64_t difference = high[j] - low[j];
    const std::uint64_t next = (high[j] < low[j] ? 1U : 0U) + (difference < borrow ? 1U : 0U);
    const std::uint64_t word = difference - borrow;
    borrow = next;
    if (word == 0) continue;
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

}  // namespace elastiform
