#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/bench/support/shape.hpp"
#include "kernels/parallel.hpp"
#include "kernels/precision.hpp"

namespace elastiform {

/// Scores of a population by the prefix evaluator, together and one by one, on the same 4 KiB of bytes.
struct PopulationRow {
  std::string population;
  std::int64_t subnets = 0;
  double together_ms = 0, one_by_one_ms = 0;                // shortest of the repeats
  std::int64_t blocks_together = 0, blocks_one_by_one = 0;  // block forwards a batch of data
};

/// Draws of the law `balanced`, and children of a few of them that differ in one block, as a search proposes them. For vocabularies of
/// 256. Throws std::logic_error if the two ways disagree in a bit.
std::vector<PopulationRow> measure_population(const Shape& shape, Precision precision, const ThreadPool& pool, int repeats);

}  // namespace elastiform
