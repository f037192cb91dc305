#pragma once

#include <functional>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/parallel.hpp"

namespace elastiform {

/// A CPU backend and its threads.
struct Cpu {
  explicit Cpu(int threads, Precision precision = Precision::f32) : pool(threads), backend(pool, precision) {}
  ThreadPool pool;
  CpuBackend backend;
};

/// What can be tested: f32, and bf16 where the CPU has it; a warning says where it has not.
std::vector<Precision> precisions_here();

/// Runs body with every kernel for products of bf16 that this CPU has: AMX and AVX-512, one, or none.
void for_each_bf16_kernel(const std::function<void()>& body);

/// How many different threads serve an operation on a pool of `threads`, which may repeat it until all have: a busy machine may wake a
/// worker after the others are done, so calls of some milliseconds need few repetitions and short ones many. 0: it runs on the caller.
int threads_that_serve(int threads, const std::function<void(Backend&)>& call);

}  // namespace elastiform
