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
  float* const out = values.data();
  for_each_in_tiles(x.columns, x.rows,
                    [&](std::int64_t column, std::int64_t row) { out[column * x.rows + row] = x.row<float>(row)[column]; });
  return values;
}

}  // namespace elastiform
