#pragma once

#include <string>

#include "kernels/parallel.hpp"
#include "kernels/precision.hpp"

namespace elastiform {

/// What "% of peak" refers to: FLOP/s of float32 fused multiply-adds (kernels/cpu/peak.hpp), or of bf16 dot products, on all workers at
/// once. Measured once for a machine, instruction set, number of threads and precision, and kept in `cache`; one that cannot be read or written only means measuring again.
class FmaPeak {
 public:
  FmaPeak(const ThreadPool& pool, Precision precision, std::string cache);
  double flops() const { return flops_; }
  /// A rate that was reached. One above the peak replaces it, here and in the cache: the machine was busy when the peak was measured.
  void reached(double flops);

 private:
  void keep() const;
  std::string cache_, machine_;
  double flops_ = 0;
};

/// ${XDG_CACHE_HOME:-~/.cache}/elastiform/fma_peak.json; "" when neither variable names an absolute folder.
std::string fma_peak_cache();

}  // namespace elastiform
