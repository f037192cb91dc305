#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "supernet/storage/file_descriptor.hpp"

namespace elastiform {

/// The first 512 bytes of our HDF5 files, readable with `head -c 512`:
///   elastiform-hdf5 1
///   kind supernet
///   payload 123456
///   sha256 HEX
/// and zeros. The checksum is over the first three lines and the payload, so damage anywhere in the file is seen.
constexpr std::size_t kUserBlockBytes = 512;

/// Writes the block of a finished HDF5 file whose first 512 bytes are free.
void seal_user_block(const std::string& path, std::string_view kind);

/// An open file whose block agreed with its content.
struct VerifiedFile {
  FileDescriptor file;
  std::string kind;
  std::uint64_t bytes = 0;
};
/// Throws InputError for whatever is not one of our files, whole, of this version, of `kind` (empty: any).
VerifiedFile open_verified(const std::string& path, std::string_view kind);

}  // namespace elastiform
