#pragma once

#include <cstdint>

namespace elastiform::cpu {

/// sum[columns] += scale · Σ_rows x[rows, columns]: rows in order within chunks of `chunk`, chunks in a fixed tree. Serial.
struct RowSums {
  float* sum = nullptr;
  const float* x = nullptr;
  std::int64_t ld = 0, rows = 0, columns = 0, chunk = 1;
  float scale = 1;
};
void add_row_sums(const RowSums& op);

}  // namespace elastiform::cpu
