#pragma once

#include <cstdint>

#include "kernels/cuda_on_host/device_calls.hpp"
#include "kernels/cuda_on_host/fiber.hpp"
#include "kernels/cuda_on_host/settings.hpp"

// The block that runs: its threads, who waits where, and who goes on. Plain arrays only (fiber.hpp says why).
namespace elastiform::ELASTIFORM_GPU::host {

constexpr int kWarp = 32;
constexpr int kMostThreads = 1024;  // of a block
constexpr int kMostWarps = kMostThreads / kWarp;

enum class State : std::uint8_t { not_begun, ready, at_barrier, in_warp_operation, ended };

/// What a lane brings to an operation of its warp, and takes from it.
struct WarpCall {
  WarpOperation operation;
  std::uint32_t mask;
  Site site;
  std::uint64_t value = 0;             // of shuffles and votes, and their result
  int argument = 0, width = kWarp;     // of shuffles
  bool flag = false;                   // transposed, is_float16
  const std::uint16_t* row = nullptr;  // of load_matrices
  std::uint32_t* registers = nullptr;
  float* d = nullptr;  // of multiply
  const std::uint32_t* a = nullptr;
  std::uint32_t b[2] = {0, 0};
};

struct Thread {
  Dim3 index;
  int number = 0;  // x fastest
  State state = State::not_begun;
  Site site{};             // of the barrier where it waits
  Fiber* fiber = nullptr;  // since it has begun
  Thread* next = nullptr;  // in the list of ready ones
  WarpCall call{};
};

struct Warp {
  std::uint32_t waiting = 0;  // lanes in an operation
  std::uint32_t parity = 0;   // a bit for the barriers whose lowest lane it is
};

/// Addresses that order memory for ThreadSanitizer. Two for each kind of barrier, in turns: a thread that runs ahead to the next barrier must
/// not order what others do before they leave this one. New ones for each block, or its threads would be ordered after an earlier block's.
struct Tokens {
  char barrier[2];
  char warp[kMostWarps][kWarp][2];
};

struct Block {
  Thread threads[kMostThreads];
  Thread* order[kMostThreads];  // in which they go on after a barrier
  Warp warps[kMostWarps];
  int count = 0, alive = 0, at_barrier = 0;
  int barrier_parity = 0;
  Thread* first_at_barrier = nullptr;
  Thread* ready = nullptr;
  Thread* current = nullptr;
  Tokens* tokens = nullptr;
  Order order_of_threads = Order::forward;
  bool unwinding = false;  // something failed: threads that wait end by an exception
  char message[1024] = "";
  Kernel kernel{};
  Fiber launcher;  // the OS thread
};
extern Block block;

/// A number of the shuffled order's sequence below n.
std::uint32_t random_below(std::uint32_t n);

/// The running thread waits until it has been made ready; meanwhile others go on.
void suspend();
void make_ready_first(Thread& thread);

bool same(Site a, Site b);

/// Fails the launch for what the block has done, unless it has failed.
void report_block(const char* format, ...) __attribute__((format(printf, 1, 2)));

/// What a warp operation is called in kernels.
const char* name_of(WarpOperation operation);
/// Adds to block.message why thread, in a warp operation, waits for ever.
void describe_wait_in_warp(const Thread& thread);

// shared_memory.cpp
void begin_shared_memory(std::size_t dynamic_bytes, bool asks);
void end_shared_memory();
void forget_async_copies(int thread);

}  // namespace elastiform::ELASTIFORM_GPU::host
