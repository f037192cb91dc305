#pragma once

#include <hdf5.h>

#include <mutex>
#include <string>
#include <utility>

namespace elastiform::hdf5 {

/// Owns an HDF5 identifier.
class Handle {
 public:
  Handle() = default;
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  hid_t get() const { return id_; }
  bool is_open() const { return id_ >= 0; }
  /// Closes now; false when HDF5 could not.
  bool close() {
    const hid_t id = std::exchange(id_, H5I_INVALID_HID);
    return id < 0 || close_(id) >= 0;
  }

 private:
  hid_t id_ = H5I_INVALID_HID;
  herr_t (*close_)(hid_t) = nullptr;
};

/// One at the top of every public function: the library is not ours to call from two threads at once, and it must not print its error
/// stack (off per thread where it is built thread-safe, hence here and not once).
class Call {
 public:
  Call();

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

Handle text_type();  // variable-length UTF-8
/// Reads the text of one element that HDF5 allocated, and frees it.
std::string take_text(char* text);

}  // namespace elastiform::hdf5
