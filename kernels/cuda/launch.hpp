#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

namespace elastiform::ELASTIFORM_GPU {

/// A queue of work of the device: a cudaStream_t, or a stream of kernels/cuda_on_host. nullptr is the default one.
using Stream = struct StreamOfTheDevice*;

struct Dim3 {
  unsigned int x = 1, y = 1, z = 1;
};

/// How a kernel is started, and its name for messages. A block may use up to 227 KiB of dynamic shared memory.
struct Launch {
  const char* name = "";
  Dim3 grid, block;
  std::size_t shared_bytes = 0;
  Stream stream = nullptr;
  bool asks = true;  // the device for its shared memory; without, dynamic bytes and arrays of SHARED have 48 KiB together
};

/// A failure of the device; names the kernel, its launch and what the device said.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline std::string text(const Launch& l) {
  const auto dim3 = [](Dim3 d) { return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z); };
  return std::string(l.name) + " on " + dim3(l.grid) + " blocks of " + dim3(l.block) + " threads, " + std::to_string(l.shared_bytes) +
         " bytes of shared memory";
}

}  // namespace elastiform::ELASTIFORM_GPU
