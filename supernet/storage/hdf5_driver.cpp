#include "supernet/storage/hdf5_driver.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "supernet/storage/file_descriptor.hpp"

namespace elastiform::hdf5 {
namespace {

struct Info {
  int* error;
};

/// What HDF5 knows as H5FD_t*: its own part first.
struct File {
  H5FD_t base;
  int file;
  int* error;
  haddr_t space, end;  // what HDF5 has handed out, and what the file holds
};
File& of(H5FD_t* file) { return *reinterpret_cast<File*>(file); }
const File& of(const H5FD_t* file) { return *reinterpret_cast<const File*>(file); }

void note_error(File& file) {
  if (*file.error == 0) *file.error = errno == 0 ? EIO : errno;
}

H5FD_t* open_file(const char* name, unsigned flags, hid_t access_list, haddr_t) {
  const Info info = *static_cast<const Info*>(H5Pget_driver_info(access_list));
  int mode = (flags & H5F_ACC_RDWR) != 0 ? O_RDWR : O_RDONLY;
  if ((flags & H5F_ACC_TRUNC) != 0) mode |= O_TRUNC;
  if ((flags & H5F_ACC_CREAT) != 0) mode |= O_CREAT;
  if ((flags & H5F_ACC_EXCL) != 0) mode |= O_EXCL;
  FileDescriptor opened(::open(name, mode | O_CLOEXEC, 0666));
  struct stat status {};
  if (!opened.is_open() || ::fstat(opened.get(), &status) != 0) {
    *info.error = errno;
    return nullptr;
  }
  *info.error = 0;  // HDF5 first tries whether the file is there already, which is no failure
  auto* const file = new (std::nothrow) File{{}, opened.release(), info.error, 0, static_cast<haddr_t>(status.st_size)};
  return file == nullptr ? nullptr : &file->base;
}

herr_t close_file(H5FD_t* base) {
  const std::unique_ptr<File> file(&of(base));
  if (::close(file->file) != 0) note_error(*file);  // some network file systems report a full disk only here
  return 0;
}

herr_t features(const H5FD_t*, unsigned long* flags) {
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE | H5FD_FEAT_AGGREGATE_SMALLDATA |
           H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  return 0;
}

haddr_t space_of(const H5FD_t* file, H5FD_mem_t) { return of(file).space; }
haddr_t end_of(const H5FD_t* file, H5FD_mem_t) { return of(file).end; }
herr_t set_space(H5FD_t* file, H5FD_mem_t, haddr_t space) {
  of(file).space = space;
  return 0;
}

herr_t read_file(H5FD_t* base, H5FD_mem_t, hid_t, haddr_t at, std::size_t bytes, void* into) {
  File& file = of(base);
  auto* bytes_of = static_cast<char*>(into);
  while (bytes > 0) {
    const ssize_t got = ::pread(file.file, bytes_of, bytes, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) note_error(file);
    if (got <= 0) break;
    bytes_of += got, at += static_cast<haddr_t>(got), bytes -= static_cast<std::size_t>(got);
  }
  std::memset(bytes_of, 0, bytes);  // what was never written reads as zeros
  return 0;
}

herr_t write_file(H5FD_t* base, H5FD_mem_t, hid_t, haddr_t at, std::size_t bytes, const void* from) {
  File& file = of(base);
  const auto* bytes_of = static_cast<const char*>(from);
  while (bytes > 0 && *file.error == 0) {
    const ssize_t put = ::pwrite(file.file, bytes_of, bytes, static_cast<off_t>(at));
    if (put < 0 && errno != EINTR) note_error(file);
    if (put <= 0) continue;
    bytes_of += put, at += static_cast<haddr_t>(put), bytes -= static_cast<std::size_t>(put);
  }
  file.end = std::max(file.end, at + bytes);
  return 0;
}

herr_t truncate_file(H5FD_t* base, hid_t, hbool_t) {
  File& file = of(base);
  if (file.space == file.end) return 0;
  if (*file.error == 0 && ::ftruncate(file.file, static_cast<off_t>(file.space)) != 0) note_error(file);
  file.end = file.space;
  return 0;
}

H5FD_class_t driver_class() {
  constexpr H5FD_mem_t kSplit[] = H5FD_FLMAP_DICHOTOMY;  // free space of structure and of data apart, as HDF5's own driver has it
  H5FD_class_t driver{};
  driver.name = "elastiform";
  driver.maxaddr = static_cast<haddr_t>(INT64_MAX);
  driver.fc_degree = H5F_CLOSE_WEAK;
  driver.fapl_size = sizeof(Info);
  driver.open = open_file;
  driver.close = close_file;
  driver.query = features;
  driver.get_eoa = space_of;
  driver.set_eoa = set_space;
  driver.get_eof = end_of;
  driver.read = read_file;
  driver.write = write_file;
  driver.truncate = truncate_file;
  std::copy(std::begin(kSplit), std::end(kSplit), driver.fl_map);
  return driver;
}

}  // namespace

WriteDriver::WriteDriver() {
  const H5FD_class_t driver = driver_class();
  driver_ = Handle(H5FDregister(&driver), H5FDunregister);
}

void WriteDriver::use_in(hid_t access_list) {
  const Info info{&error_};
  H5Pset_driver(access_list, driver_.get(), &info);
}

}  // namespace elastiform::hdf5
