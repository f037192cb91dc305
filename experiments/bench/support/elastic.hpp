#pragma once

#include <string>
#include <vector>

#include "experiments/bench/support/shape.hpp"
#include "kernels/parallel.hpp"
#include "kernels/precision.hpp"

namespace elastiform {

/// A subnet's training step inside the supernet and as a dense network of exactly that size, weights copied out.
struct ElasticRow {
  std::string subnet;
  double supernet_ms = 0, dense_ms = 0;  // medians
  double ratio = 0;                      // median of the ratios of neighbours in time
  double first_over_second = 0;          // its first step in this process over its second
};

/// The subnets of the shape's list, each with `repeats` pairs of steps, supernet and dense first in turn.
std::vector<ElasticRow> measure_elastic(const Shape& shape, Precision precision, const ThreadPool& pool, int repeats);

double median(std::vector<double> values);

}  // namespace elastiform
