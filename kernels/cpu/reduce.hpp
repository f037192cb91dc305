#pragma once

#include <cstdint>

#include "kernels/view.hpp"

namespace elastiform::cpu {

/// sum[columns] (accumulate: +)= scale · Σ_rows x[rows, columns]: rows in order within chunks of `chunk`, chunks in a fixed tree. Serial.
struct RowSums {
  float* sum = nullptr;
  ConstView x;  // float32 or bfloat16
  std::int64_t chunk = 1;
  float scale = 1;
  bool accumulate = true;
};
void add_row_sums(const RowSums& op);

}  // namespace elastiform::cpu
