#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "kernels/view.hpp"

namespace elastiform {

/// Values of the host's memory, whatever the two leading dimensions. Throws std::logic_error unless shapes and types are equal.
inline void copy_rows(View to, ConstView from) {
  if (to.rows != from.rows || to.columns != from.columns || to.dtype != from.dtype) throw std::logic_error("copy of another shape");
  for (std::int64_t row = 0; row < from.rows; ++row)
    std::memcpy(to.row_range(row, 1).data, from.row_range(row, 1).data, static_cast<std::size_t>(from.columns * bytes_of(from.dtype)));
}

}  // namespace elastiform
