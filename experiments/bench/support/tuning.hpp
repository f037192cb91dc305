#pragma once

#include <string>
#include <vector>

#include "experiments/bench/support/shape.hpp"
#include "kernels/parallel.hpp"
#include "kernels/precision.hpp"

namespace elastiform {

/// A training step of the largest subnet in which a method's tensors learn, beside one in which all do.
struct TuningRow {
  std::string method;
  std::int64_t learning = 0;         // parameters
  double full_ms = 0, tuned_ms = 0;  // medians
  double ratio = 0;                  // full over tuned: median of the ratios of neighbours in time
};

/// Methods that the shape's model can be tuned with (lora: rank 8, all linear maps), each in `repeats` pairs of steps, first in turn.
std::vector<TuningRow> measure_tuning(const Shape& shape, Precision precision, const ThreadPool& pool, int repeats);

}  // namespace elastiform
