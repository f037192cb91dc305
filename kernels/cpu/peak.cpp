#include "kernels/cpu/peak.hpp"

#include <algorithm>
#include <chrono>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/peak.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

constexpr int kChains = 12;  // two units with a latency of four cycles need eight

/// Returns the number of floating-point operations; the sum goes to `sink`, so that the loop is not removed.
double multiply_add_loop(long repeats, float* sink) {
  const Float d;
  FloatVector sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = hn::Set(d, static_cast<float>(i));
  const auto factor = hn::Set(d, 0.999f), term = hn::Set(d, 0.001f);
  for (long n = 0; n < repeats; ++n)
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = hn::MulAdd(sums[i], factor, term);
  for (int i = 1; i < kChains; ++i) sums[0] = hn::Add(sums[0], sums[i]);
  *sink = sum_of_lanes(sums[0]);
  return 2.0 * static_cast<double>(lanes()) * kChains * static_cast<double>(repeats);
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(multiply_add_loop);

double cpu::measure_fma_peak() {
  double best = 0;
  volatile float sink = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {  // short ones: another program may take the core during a long one
    float sum = 0;
    const auto start = std::chrono::steady_clock::now();
    const double operations = HWY_DYNAMIC_DISPATCH(multiply_add_loop)(1'000'000, &sum);
    sink = sum;
    best = std::max(best, operations / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  static_cast<void>(sink);
  return best;
}

}  // namespace elastiform
#endif
