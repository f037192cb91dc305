#include "supernet/formats/weight_rows.hpp"

namespace elastiform {

std::vector<float> row_major(ConstView x) {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(x.size()));
  for (std::int64_t row = 0; row < x.rows; ++row) values.insert(values.end(), x.row<float>(row), x.row<float>(row) + x.columns);
  return values;
}

std::vector<float> transposed(ConstView x) {
  std::vector<float> values(static_cast<std::size_t>(x.size()));
  for (std::int64_t row = 0; row < x.rows; ++row)
    for (std::int64_t column = 0; column < x.columns; ++column)
      values[static_cast<std::size_t>(column * x.rows + row)] = x.row<float>(row)[column];
  return values;
}

}  // namespace elastiform
