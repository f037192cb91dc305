#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/runtime.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// Some elements in memory of the device.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::int64_t count) : data_(static_cast<T*>(allocate_on_device(count * bytes_of_one()))), count_(count) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(static_cast<std::int64_t>(values.size())) { assign(values); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { free_on_device(data_); }

  T* data() const { return data_; }
  std::int64_t size() const { return count_; }
  void assign(const std::vector<T>& values) { copy_async(nullptr, data_, 0, values.data(), 0, count_ * bytes_of_one(), 1); }
  /// Waits for the stream's work.
  std::vector<T> values(Stream stream = nullptr) const {
    std::vector<T> values(static_cast<std::size_t>(count_));
    copy_async(stream, values.data(), 0, data_, 0, count_ * bytes_of_one(), 1);
    return values;
  }

 private:
  static constexpr std::int64_t bytes_of_one() { return static_cast<std::int64_t>(sizeof(T)); }
  T* data_ = nullptr;
  std::int64_t count_ = 0;
};

}  // namespace elastiform::ELASTIFORM_GPU
