#pragma once

// All that a kernel file includes of CUDA. nvcc compiles the file for GPUs; g++ and clang compile the same file against
// kernels/cuda_on_host, which runs the threads of a block as fibers. The rules are in kernels/cuda/README.md.
//
//   GPU_KERNEL, GPU_FUNCTION    in front of `void name(…)` of a kernel, and of a function that kernels call
//   SHARED(float, tile, [32][33])   an array in shared memory;  DYN_SHARED(float, p)  the dynamic part, from its beginning
//   launch({"name", grid, block, shared_bytes, stream}, kernel, arguments…)
//   threadIdx, blockIdx, blockDim, gridDim; __syncthreads, __syncwarp(mask), __shfl_sync, __shfl_xor_sync, __shfl_down_sync,
//   __ballot_sync, __any_sync, __all_sync; atomicAdd (float, int, unsigned), atomicMax, atomicCAS, __threadfence; fmaf, expf, …
//   to_float(x), from_float<T>(x)   of float, BFloat16, Float16: round to nearest, ties to even
//   cp_async16, cp_async_commit, cp_async_wait<N>, ldmatrix_x4(_trans), mma_m16n8k16 (ptx.hpp)
#include "kernels/cuda/launch.hpp"
#include "kernels/view.hpp"

#ifdef __CUDACC__
#include "kernels/cuda/gpu_nvcc.hpp"
#else
#include "kernels/cuda_on_host/gpu_on_host.hpp"
#endif
#include "kernels/cuda/ptx.hpp"
