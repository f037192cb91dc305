#include "supernet/storage/hdf5_file.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace elastiform;

// What is damaged must be seen before HDF5, which crashes on malformed files, opens it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::refuses_or_reads([&] { Hdf5Reader(fuzz::file_with(fuzz::text_of(data, size)), "").listing(); });
  return 0;
}
