#pragma once

// Sums over warps and blocks, in trees that depend on the number of threads only.
#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {

constexpr int kMostWarps = 32;  // of a block

/// Over the 32 lanes of a warp, which all must call; every lane receives the same bits.
template <class T>
GPU_FUNCTION T warp_sum(T x) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(kFullMask, x, distance);
  return x;
}
GPU_FUNCTION float warp_max(float x) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(kFullMask, x, distance));
  return x;
}

/// Each of N values over a block of one dimension and whole warps, all of which must call: lanes in a butterfly, then warps in their order.
template <class T, int N>
GPU_FUNCTION void block_sum(T (&x)[N]) {
  SHARED(T, of_warps, [N][kMostWarps]);
  const int warp = static_cast<int>(threadIdx.x) / kWarp, warps = static_cast<int>(blockDim.x) / kWarp;
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = warp_sum(x[i]);
  if (warps == 1) return __syncwarp(kFullMask);  // callers count on a barrier
  if (threadIdx.x % kWarp == 0)
    for (int i = 0; i < N; ++i) of_warps[i][warp] = x[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < N; ++i) {
    x[i] = of_warps[i][0];
    for (int w = 1; w < warps; ++w) x[i] += of_warps[i][w];
  }
  __syncthreads();  // the next call writes where this one reads
}

/// Likewise the largest; a NaN is passed over.
template <int N>
GPU_FUNCTION void block_max(float (&x)[N]) {
  SHARED(float, of_warps, [N][kMostWarps]);
  const int warp = static_cast<int>(threadIdx.x) / kWarp, warps = static_cast<int>(blockDim.x) / kWarp;
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = warp_max(x[i]);
  if (warps == 1) return __syncwarp(kFullMask);  // callers count on a barrier
  if (threadIdx.x % kWarp == 0)
    for (int i = 0; i < N; ++i) of_warps[i][warp] = x[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < N; ++i)
    for (int w = 0; w < warps; ++w) x[i] = fmaxf(x[i], of_warps[i][w]);
  __syncthreads();
}

}  // namespace elastiform::ELASTIFORM_GPU
