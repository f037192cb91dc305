#pragma once

#include <string>
#include <vector>

#include "experiments/bench/support/shape.hpp"
#include "kernels/parallel.hpp"

namespace elastiform {

/// An optimizer's update of the largest subnet, gradients ready.
struct UpdateRow {
  std::string optimizer;
  double ms = 0;           // median
  double ratio = 0;        // median of the ratios to AdamW's update beside it in time
  double state_bytes = 0;  // a parameter
};

/// Every optimizer with its usual options, each update beside one of AdamW's, `repeats` pairs.
std::vector<UpdateRow> measure_updates(const Shape& shape, const ThreadPool& pool, int repeats);

}  // namespace elastiform
