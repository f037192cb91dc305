#pragma once

#include <cstdint>

// How kernels/cuda_on_host runs what it is given; the environment says so when the program starts, tests may change it between launches.
namespace elastiform::ELASTIFORM_GPU {

/// In which order the blocks of a grid run, and the threads of a block between barriers: ELASTIFORM_CUDA_ON_HOST_ORDER = forward
/// (default), reverse, or shuffle:SEED. A correct kernel gives the same bits in all.
enum class Order : std::uint8_t { forward, reverse, shuffle };
void set_order(Order order, std::uint64_t seed = 0);

/// Whether launches and copies wait in their stream until somebody waits for it (default), or run at once:
/// ELASTIFORM_CUDA_ON_HOST_STREAMS = queued or at-once.
void set_queued(bool queued);

namespace host {

/// What has been asked of the device since the program began and takes its time on a GPU.
struct Counts {
  std::int64_t allocations = 0;  // of device memory and of pinned memory
  std::int64_t waits = 0;        // of the host for a stream
};
Counts counts();
void count_allocation();
void count_wait();

struct Settings {
  Order order = Order::forward;
  std::uint64_t seed = 0;
  bool queued = true;
  std::int64_t memory_bytes = std::int64_t{4} << 30;  // ELASTIFORM_CUDA_ON_HOST_MEMORY
};
/// What the environment says now; throws InputError for what it does not understand.
Settings settings_from_environment();
/// What holds: the environment at the first call, and what was set since.
Settings& settings();

}  // namespace host
}  // namespace elastiform::ELASTIFORM_GPU
