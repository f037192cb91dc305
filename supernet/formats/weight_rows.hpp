#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/view.hpp"

namespace elastiform {

/// A matrix without the padding between its rows, as files keep it: as it stands, or [in,out] as [out,in].
std::vector<float> row_major(ConstView x);
std::vector<float> transposed(ConstView x);

/// Calls each(row, column) for every element of a matrix in squares of which both sides' lines stay in L1: one of them is read or written
/// down its columns, and a matrix of rows of a power of two would fetch every line of it once an element.
template <class Each>
void for_each_in_tiles(std::int64_t rows, std::int64_t columns, const Each& each) {
  constexpr std::int64_t kTile = 32;
  for (std::int64_t first_row = 0; first_row < rows; first_row += kTile)
    for (std::int64_t first = 0; first < columns; first += kTile)
      for (std::int64_t row = first_row; row < std::min(first_row + kTile, rows); ++row)
        for (std::int64_t column = first; column < std::min(first + kTile, columns); ++column) each(row, column);
}

/// into[row, column] = values[place(column) · width + row], of a file's [out,in] with rows of `width` elements.
template <class Place>
void fill_transposed(View into, const float* values, std::int64_t width, const Place& place) {
  for_each_in_tiles(into.rows, into.columns,
                    [&](std::int64_t row, std::int64_t column) { into.row<float>(row)[column] = values[place(column) * width + row]; });
}

}  // namespace elastiform
