#pragma once

#include <memory>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/runtime.hpp"

namespace elastiform::ELASTIFORM_GPU::host {

/// What waits in a stream. run() may not throw.
class Work {
 public:
  explicit Work(const Launch& launch) : launch_(launch) {}
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;
  virtual ~Work() = default;
  virtual void run() = 0;
  /// Throws DeviceError unless what it points to is memory of the device: when it is put into a stream, and each time that it is played.
  virtual void check_pointers() const {}
  const Launch& launch() const { return launch_; }

 private:
  Launch launch_;
};

/// Throws DeviceError for a grid, a block or shared memory that a GPU (H100) refuses.
void check(const Launch& launch);
/// Throws DeviceError unless the pointer is null or into (or to the end of) memory of the device that has not been freed.
void check_pointer(const Launch& launch, int argument, const void* pointer);

void enqueue(Stream stream, std::unique_ptr<Work> work);
/// Runs what waits in any stream. What goes wrong is thrown by the next synchronize().
void finish_all();

}  // namespace elastiform::ELASTIFORM_GPU::host
