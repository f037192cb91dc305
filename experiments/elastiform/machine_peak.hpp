#pragma once

#include "kernels/backend.hpp"

namespace elastiform {

/// FLOP/s of the fastest thing that training does here: a product of 256 × 512 × 512 in cache on every worker at once, the best of several
/// short runs (about 0.2 s in all). What "% of peak" refers to.
double measure_peak(Backend& backend);

}  // namespace elastiform
