#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace elastiform {

/// The dynamic map of 8-bit optimizer states (arXiv 2110.02861): 256 numbers of [-1, 1], or of [0, 1], in ascending order; a code is an
/// index. Besides 0 and 1 there are seven decades from 1e-6·[0.1, 1] to [0.1, 1]; decade i is cut into 2^i equal cells (2^(i+1) where there
/// is no sign), whose middles are the numbers. So the nearest number is found by arithmetic: its decade, then its cell.
constexpr int kCodes = 256, kDecades = 7;
constexpr int kZeroCode = 127;  // of the signed map

const std::array<double, kCodes>& signed_map();
const std::array<double, kCodes>& unsigned_map();
/// Index of the number nearest to x, the lower one of two.
int nearest_code(const std::array<double, kCodes>& map, double x);

/// The same by arithmetic, of a magnitude x in [0, 1]; ties are decided by rounding. With k of the bounds below x: k = 0 is zero; else decade
/// k-1, whose cell is floor(x·scale - offset), kept between 0 and cells-1, and the ordinal (1, 2, … above zero) cells + cell - shift;
/// k = 8 counts as a decade of the one number 1. A negative number of the signed map has the code kZeroCode - ordinal, at least 0.
/// Back: with ordinal + shift = f·2^e, 1 ≤ f < 2, the number is slope·f + base of decade e - shift.
struct DynamicSearch {
  float bounds[kDecades + 1] = {}, scale[kDecades + 1] = {}, offset[kDecades + 1] = {}, slope[kDecades + 1] = {}, base[kDecades + 1] = {};
  float first_cells = 1, shift = 0;  // decade i has first_cells·2^i cells
};
const DynamicSearch& signed_search();
const DynamicSearch& unsigned_search();

/// Blocks of codes of a rectangle: of at most 256 elements, up to 256 columns wide and as many rows high as fit. A rectangle that is cut
/// at multiples of `rows` has the blocks of its parts.
constexpr std::int64_t kCodeBlock = 256;
struct CodeBlocks {
  std::int64_t rows = 1, columns = 1;  // of a block
  std::int64_t down = 0, across = 0;   // blocks
  constexpr CodeBlocks(std::int64_t rectangle_rows, std::int64_t rectangle_columns)
      : rows(std::max<std::int64_t>(1, kCodeBlock / std::max<std::int64_t>(1, rectangle_columns))),
        columns(std::min(kCodeBlock, std::max<std::int64_t>(1, rectangle_columns))), down((rectangle_rows + rows - 1) / rows),
        across((rectangle_columns + columns - 1) / columns) {}
  constexpr std::int64_t count() const { return down * across; }
};

}  // namespace elastiform
