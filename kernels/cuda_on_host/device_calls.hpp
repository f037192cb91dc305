#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.hpp"

// What the twins of CUDA's functions (gpu_on_host.hpp, ptx_on_host.hpp) ask of the runtime while a kernel runs. All act for the running
// thread of the running block, and end it with an exception that kernels let pass when the launch is at fault; that is reported once, by
// whoever waits for the launch.
namespace elastiform::ELASTIFORM_GPU::host {

/// Where in a kernel's source something is called.
struct Site {
  const char* file;
  int line;
};

extern Dim3 thread_index, block_index, block_dimensions, grid_dimensions;

/// Ends the launch with this message about the running thread.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

void block_barrier(Site site);
void fence();

// Operations of a warp: every lane of the mask must come to the same one. Only warp_barrier orders memory.
enum class WarpOperation : std::uint8_t { barrier, shuffle, shuffle_up, shuffle_down, shuffle_xor, ballot, load_matrices, multiply };
void warp_barrier(std::uint32_t mask, Site site);
std::uint64_t shuffle(WarpOperation kind, std::uint32_t mask, std::uint64_t value, int argument, int width, Site site);
/// The lanes of the mask whose vote is true.
std::uint32_t ballot(std::uint32_t mask, bool vote, Site site);
/// ldmatrix: row[i] is the calling lane's row of eight 16-bit elements, r its registers.
void load_matrices(const std::uint16_t (&row)[8], bool transposed, std::uint32_t (&r)[4], Site site);
/// mma.m16n8k16: adds to d. float16 elements, or bfloat16.
void multiply(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, bool is_float16, Site site);

// Shared memory
/// The block's array for this key (one address a declaration): made by the first thread that asks, all bits set.
void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, const char* name);
void* dynamic_shared();
/// Fails unless `bytes` bytes from p, aligned to them, lie in one shared array.
void check_shared(const void* p, std::size_t bytes, const char* what, Site site);

/// One cp.async of the running thread.
struct AsyncCopy {
  void* to;
  const void* from;
  int bytes;  // of 16; the rest is zeros
};
void begin_async_copy(const AsyncCopy& copy, Site site);
void commit_async_copies();
/// How many copies belong to all committed groups but the last `groups`; then next_async_copy() as often.
int async_copies_due(int groups, Site site);
AsyncCopy next_async_copy();

/// A kernel with its arguments: call(arguments) is one thread. The tokens are addresses of its own, for ThreadSanitizer.
struct Kernel {
  const void* arguments;
  void (*call)(const void* arguments);
  const void* begin;
  const void* end;
};
/// Runs all blocks until something goes wrong.
void run_grid(const Launch& launch, const Kernel& kernel);
/// What went wrong in the last grid; empty if nothing did.
const char* grid_failure();

}  // namespace elastiform::ELASTIFORM_GPU::host
