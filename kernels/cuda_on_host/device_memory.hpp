#pragma once

#include <cstdint>

#include "kernels/cuda/runtime.hpp"

// The memory that stands for the device's: one range of addresses, which nobody can read or write but while work of a stream runs.
namespace elastiform::ELASTIFORM_GPU::host {

/// While one lives, memory of the device is accessible.
class DeviceAccess {
 public:
  DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
  ~DeviceAccess();
};

enum class Place : std::uint8_t { device, pinned, pageable };
Place place_of(const void* memory);
/// Whether [memory, memory + bytes) lies inside one allocation of the device.
bool holds(const void* memory, std::int64_t bytes);

}  // namespace elastiform::ELASTIFORM_GPU::host
