#pragma once

#include <functional>

#include "kernels/precision.hpp"

namespace elastiform {

/// FLOP/s of all threads together in independent multiply-adds (f32) or bf16 dot products.
double measured_peak(Precision precision, int threads);

/// Bytes/s that a + b → c moves between `threads` cores and memory: two reads and a write, in arrays far above any cache.
double measured_bandwidth(int threads);

/// MiB that the process had resident at most, since the last reset.
double peak_resident_mib();
/// Gives free memory back to the system and starts the count again, so that several measurements fit into one process.
void reset_peak_resident();

double seconds_of(const std::function<void()>& body);

/// The shortest of repeats: at least 5, at most 200 and then 0.3 s in all. The first touches memory and does not count.
double best_seconds(const std::function<void()>& body);

}  // namespace elastiform
