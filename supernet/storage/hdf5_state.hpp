#pragma once

#include "supernet/storage/hdf5_file.hpp"
#include "supernet/storage/hdf5_handle.hpp"
#include "supernet/storage/user_block.hpp"

namespace elastiform {

/// What hdf5_reader.cpp and hdf5_digest.cpp share.
struct Hdf5Reader::State {
  std::string path;
  VerifiedFile verified;
  hdf5::Handle file;

  [[noreturn]] void refuse(const std::string& object, const std::string& expected, const std::string& found) const;

  /// A dataset whose size has been checked against the file's.
  struct Dataset {
    hdf5::Handle id, type, space;
    std::vector<std::uint64_t> shape;
    std::uint64_t elements = 0;     // product of the shape
    std::size_t element_bytes = 0;  // in the file
    bool chunked = false;
  };
  Dataset open(const std::string& object) const;

  /// Every value of a dataset whose type in the file is `type`.
  template <class T>
  std::vector<T> values(const std::string& object, hid_t type, const char* type_name) const;
  std::vector<std::string> texts(const Dataset& dataset, const std::string& object) const;
  ColumnTable table(const Dataset& dataset, const std::string& object) const;
};

}  // namespace elastiform
