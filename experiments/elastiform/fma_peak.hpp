#pragma once

#include <string>

#include "kernels/parallel.hpp"

namespace elastiform {

/// What "% of peak" refers to: FLOP/s of float32 fused multiply-adds on all workers at once (kernels/cpu/peak.hpp). Measured once for a
/// machine, instruction set and number of threads, and kept in `cache`; one that cannot be read or written only means measuring again.
class FmaPeak {
 public:
  FmaPeak(const ThreadPool& pool, std::string cache);
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
