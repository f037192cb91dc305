#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "kernels/errors.hpp"

namespace elastiform {

/// The rule behind every file we write, for writers that need the temporary file for longer than one call: temporary() stands beside `path`
/// until commit() syncs it, renames it over `path` and syncs the folder. Without commit() it is removed. What killed writers of the same
/// file left is removed by the next one.
class DurableFile {
 public:
  explicit DurableFile(const std::string& path);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;
  const std::string& temporary() const { return temporary_; }
  void commit();  // throws std::system_error naming the path

 private:
  std::string path_, temporary_;
};

/// The only way to write a file: content goes to a file beside `path`, which is synced, renamed over `path`, and its folder synced.
/// Whoever looks, or loses power, finds the old file or the new one. Throws std::system_error naming the path. Inside a file or folder that is being
/// filled (below), the sync is left to whoever fills it.
void write_durably(const std::string& path, std::string_view content);

/// The same for content that a library writes: write(temporary path) must create and close the file.
void write_durably(const std::string& path, const std::function<void(const std::string&)>& write);

/// The same for a whole folder: fill(temporary folder), then one rename. `path` must not exist (InputError). What `fill` writes by these functions,
/// on its thread, is on its way to the disk at once and synced before the rename, so that the disk works while `fill` does.
void create_folder_durably(const std::string& path, const std::function<void(const std::string&)>& fill);

/// Appends records to a file, each with a sequence number, length and CRC-32C, synced by commit(). A torn tail, behind which no whole record
/// stands, is cut off when the journal is opened for writing and ignored when it is read. Damage before whole records is neither: both
/// throw InputError naming the byte, hand out nothing and leave the file as it is.
class Journal {
 public:
  explicit Journal(const std::string& path);  // opens or creates for appending
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  void append(std::string_view record);
  void commit();              // everything appended is on disk when it returns
  std::size_t bytes() const;  // of committed records; 0 after clear()
  void clear();               // after a fold: durable and atomic

  static void read(const std::string& path, const std::function<void(std::uint64_t sequence, std::string_view record)>& each);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The disk begins to write what the file has. A hint: who syncs it later waits for less.
void begin_to_write(const std::string& path);

/// Somebody else writes to the folder.
struct FolderLocked : InputError {
  using InputError::InputError;
};

/// Takes the folder's lock for writing or throws FolderLocked naming the owner (process, host, since when), after `patience`. Released with
/// the object, and by the system when the process dies.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder, const std::string& name = "lock", std::chrono::milliseconds patience = {});
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int file_ = -1;
};

/// A place where a test can kill the process: the n-th point passed when ELASTIFORM_FAIL_POINT=n raises SIGKILL. Points stand around every
/// sync and rename of this file, and wherever two files change one after the other.
void fail_point();
/// Which point ELASTIFORM_FAIL_POINT names; 0: none. InputError when it is no number from 1.
long chosen_fail_point();

}  // namespace elastiform
