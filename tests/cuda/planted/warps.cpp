#include <algorithm>
#include <cmath>

#include "tests/cuda/planted/planted.hpp"

// One warp a row: causal attention of one head with online softmax, and a prefix sum.
namespace elastiform::ELASTIFORM_GPU {

namespace {

enum Bug { kNone, kNoSyncAfterWrite, kNoSyncBeforeWrite, kLanesLeave, kMaskTooSmall, kTwoPlaces, kSourceLeft, kEdgeAdded };

constexpr int kHead = 32;  // elements of a head: one a lane

GPU_FUNCTION float warp_max(float x) {
  for (int m = 16; m > 0; m /= 2) x = fmaxf(x, __shfl_xor_sync(kFullMask, x, m));
  return x;
}
GPU_FUNCTION float warp_sum(float x) {
  for (int m = 16; m > 0; m /= 2) x += __shfl_xor_sync(kFullMask, x, m);
  return x;
}

/// out[t] = Σ_{s ≤ t} softmax(q[t]·k[s]) v[s]; rows of kHead elements, `warps` rows a block.
template <Bug BUG>
GPU_KERNEL attend(float* out, const float* q, const float* k, const float* v, int T) {
  SHARED(float, weights, [4][32]);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int t = static_cast<int>(blockIdx.x) * 4 + warp;
  if (t >= T) return;  // the whole warp
  float largest = -INFINITY, total = 0, sum = 0;
  for (int first = 0; first <= t; first += 32) {
    const int s = first + lane;
    if (BUG == kLanesLeave && s > t) return;
    float score = -INFINITY;
    if (s <= t) {
      score = 0;
      for (int i = 0; i < kHead; ++i) score += q[t * kHead + i] * k[s * kHead + i];
    }
    const float now = fmaxf(largest, warp_max(score)), factor = expf(largest - now), weight = expf(score - now);
    if (BUG != kNoSyncBeforeWrite) __syncwarp();
    weights[warp][lane] = weight;
    if (BUG != kNoSyncAfterWrite) __syncwarp();
    sum *= factor;
    for (int i = 0; i < 32 && first + i <= t; ++i) sum += weights[warp][i] * v[(first + i) * kHead + lane];
    total = total * factor + warp_sum(weight);
    largest = now;
  }
  out[t * kHead + lane] = sum / total;
}

template <Bug BUG>
bool run_attention() {
  constexpr std::size_t kT = 70, kD = kHead;
  std::vector<float> q = small_numbers(kT * kD), k = small_numbers(kT * kD, 2), v = small_numbers(kT * kD, 4);
  for (float& x : q) x = (x - 3) / 16;
  const DeviceArray<float> device_q(q), device_k(k), device_v(v), out(kT * kD);
  launch({"attend", {(kT + 3) / 4}, {128}}, attend<BUG>, out.data(), device_q.data(), device_k.data(), device_v.data(),
         static_cast<int>(kT));
  const std::vector<float> got = out.values();
  for (std::size_t t = 0; t < kT; ++t) {
    std::vector<double> weights(t + 1), expected(kD);
    double total = 0;
    for (std::size_t s = 0; s <= t; ++s) {
      double score = 0;
      for (std::size_t i = 0; i < kD; ++i) score += static_cast<double>(q[t * kD + i]) * static_cast<double>(k[s * kD + i]);
      total += weights[s] = std::exp(score);
    }
    for (std::size_t i = 0; i < kD; ++i) {
      for (std::size_t s = 0; s <= t; ++s) expected[i] += weights[s] / total * static_cast<double>(v[s * kD + i]);
      if (!(std::abs(static_cast<double>(got[t * kD + i]) - expected[i]) < 1e-4)) return false;
    }
  }
  return true;
}

/// y[n] = x[0] + … + x[n] of each row of 32 numbers.
template <Bug BUG>
GPU_KERNEL scan(float* y, const float* x) {
  const int lane = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * 32 + lane;
  float sum = x[i];
  for (unsigned int delta = 1; delta < 32; delta *= 2) {
    const bool takes = lane >= static_cast<int>(delta);
    float other = 0;
    if (BUG == kMaskTooSmall) {
      other = __shfl_up_sync(0x7fffffffu, sum, delta);
    } else if (BUG == kTwoPlaces) {
      if (takes) other = __shfl_up_sync(kFullMask, sum, delta);
      else other = __shfl_up_sync(kFullMask, 0.0f, delta);
    } else if (BUG == kSourceLeft) {
      const unsigned int mask = __ballot_sync(kFullMask, takes);
      if (takes) other = __shfl_up_sync(mask, sum, delta);
    } else {
      other = __shfl_up_sync(kFullMask, sum, delta);
    }
    if (takes || BUG == kEdgeAdded) sum += other;
  }
  y[i] = sum;
}

template <Bug BUG>
bool run_scan() {
  const std::vector<float> x = small_numbers(3 * 32);
  const DeviceArray<float> from(x), to(3 * 32);
  launch({"scan", {3}, {32}}, scan<BUG>, to.data(), from.data());
  const std::vector<float> got = to.values();
  float sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum = i % 32 == 0 ? x[i] : sum + x[i];
    if (!(got[i] == sum)) return false;
  }
  return true;
}

}  // namespace

std::vector<Planted> planted_in_warps() {
  return {
      {"none: attention", 0, Sign::none, run_attention<kNone>},
      {"no __syncwarp after lanes write for others", kForward | kShuffle | kReverse | kThreadSanitizer, Sign::wrong_result,
       run_attention<kNoSyncAfterWrite>},
      {"no __syncwarp before they write again", kThreadSanitizer, Sign::none, run_attention<kNoSyncBeforeWrite>},
      {"lanes without a key return before a shuffle", kAnyOrder, Sign::report, run_attention<kLanesLeave>},
      {"none: prefix sum", 0, Sign::none, run_scan<kNone>},
      {"a mask without one of the lanes", kAnyOrder, Sign::report, run_scan<kMaskTooSmall>},
      {"lanes shuffle in both branches", kAnyOrder, Sign::report, run_scan<kTwoPlaces>},
      {"the source of a shuffle is not in the mask", kAnyOrder, Sign::report, run_scan<kSourceLeft>},
      {"lanes without a source add their own value", kAnyOrder, Sign::wrong_result, run_scan<kEdgeAdded>},
  };
}

}  // namespace elastiform::ELASTIFORM_GPU
