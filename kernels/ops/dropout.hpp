#pragma once

#include <array>
#include <cstdint>
#include <tuple>

#include "kernels/view.hpp"

namespace elastiform {

/// y[N,C] = m ∘ x / (1 - rate) + add, each element of m 0 with probability `rate` and else 1 (Srivastava et al., JMLR 2014, scaled at once). An
/// empty add is none; y may be x or add. The same operation on gradients is its backward. m is a function of (seed, step, place, row, column)
/// alone: 32 bits of Philox an element, the same ones in every panel, slice and recomputation and on every backend. Product and sum are
/// rounded apart. Used inside panels.
struct Dropout {
  static constexpr const char* kName = "dropout";
  View y;
  ConstView x, add;
  double rate = 0;
  std::uint64_t seed = 0, step = 0;
  std::uint32_t place = 0;       // which of a network's dropouts
  std::int64_t rows_before = 0;  // of the step, before row 0 of the views
  void check() const;
  auto fields() const { return std::tie(y, x, add); }

  /// Of Philox for columns 4·group to 4·group + 3 of a row; word i is column 4·group + i's. No other purpose has these counters.
  std::array<std::uint32_t, 4> counter(std::int64_t row, std::int64_t group) const;
  std::array<std::uint32_t, 2> key() const { return {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}; }
  /// An element is kept where its word is at least this.
  std::uint32_t threshold() const;
  double scale() const { return 1 / (1 - rate); }
};

}  // namespace elastiform
