#pragma once

#include "supernet/storage/hdf5_handle.hpp"

namespace elastiform::hdf5 {

/// How a written file's bytes reach the system. HDF5 1.10 cannot close a file after a write that failed: its own drivers leave it half closed,
/// and the library crashes over it when the process ends. This one keeps the first error to itself, drops what comes after it and reports
/// success, so that the file closes like any other; whoever writes asks error() and gives up.
class WriteDriver {
 public:
  WriteDriver();
  WriteDriver(const WriteDriver&) = delete;
  WriteDriver& operator=(const WriteDriver&) = delete;
  void use_in(hid_t access_list);       // must outlive every file opened with it
  int error() const { return error_; }  // errno of the first failure, 0: none

 private:
  Handle driver_;
  int error_ = 0;
};

}  // namespace elastiform::hdf5
