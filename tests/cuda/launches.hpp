#pragma once

#include <cstdint>
#include <string>

#include "kernels/cuda/runtime.hpp"
#include "kernels/cuda_on_host/settings.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// Another order of blocks and threads until the end of the scope.
struct OrderGuard {
  explicit OrderGuard(Order order, std::uint64_t seed = 0) { set_order(order, seed); }
  OrderGuard(const OrderGuard&) = delete;
  OrderGuard& operator=(const OrderGuard&) = delete;
  ~OrderGuard() { set_order(Order::forward); }
};

/// What waiting for the stream throws; empty if nothing.
inline std::string failure_of(Stream stream = nullptr) {
  try {
    synchronize(stream);
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "";
}

}  // namespace elastiform::ELASTIFORM_GPU
