#include "supernet/storage/durable_file.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "kernels/errors.hpp"
#include "supernet/storage/file_descriptor.hpp"
#include "supernet/storage/new_file.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporarySuffix = ".new";

std::string folder_of(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

void sync_path(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open() || ::fsync(file.get()) != 0) throw_system_error("sync", path);
}

void begin_to_write(int file) {
#ifdef __linux__
  static_cast<void>(::sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE));  // a hint
#endif
}

/// While a temporary file or folder is filled by this thread, what is written into it is on its way to the disk, and synced before it gets its
/// name. Files stay open until then: a descriptor hears of an error that happened before the sync, while one that is opened later may not.
class Filling {
 public:
  explicit Filling(const std::string& temporary) : temporary_(temporary), before_(now) {
    if (before_ == nullptr) now = this;  // the outermost has all that is in it
  }
  ~Filling() { now = before_; }
  Filling(const Filling&) = delete;
  Filling& operator=(const Filling&) = delete;

  /// The one that `path` belongs to; null: none.
  static Filling* of(const std::string& path) {
    return now != nullptr && (path == now->temporary_ || path.starts_with(now->temporary_ + "/")) ? now : nullptr;
  }
  void take(const std::string& written) {
    FileDescriptor file(::open(written.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.is_open()) throw_system_error("sync", written);
    begin_to_write(file.get());
    written_.push_back(std::move(file));
    if (written_.size() == kMost) sync();
  }
  void sync() {
    for (const FileDescriptor& file : written_)
      if (::fsync(file.get()) != 0) throw_system_error("sync", temporary_);
    written_.clear();
  }

 private:
  static constexpr std::size_t kMost = 64;  // open at once
  static thread_local Filling* now;
  const std::string& temporary_;
  Filling* const before_;
  std::vector<FileDescriptor> written_;
};
thread_local Filling* Filling::now = nullptr;

// Threads have numbers of their own in the system's table of processes, so two threads never share a temporary file.
std::string temporary_of(const std::string& path) { return path + "." + std::to_string(::gettid()) + std::string(kTemporarySuffix); }

/// The thread that wrote NAME.NUMBER.new, or 0 when `file` is not a temporary of `name`.
pid_t writer_of(std::string_view file, std::string_view name) {
  if (file.size() < name.size() + 2 + kTemporarySuffix.size() || !file.starts_with(name) || !file.ends_with(kTemporarySuffix)) return 0;
  file.remove_prefix(name.size());
  file.remove_suffix(kTemporarySuffix.size());
  if (file.front() != '.') return 0;
  pid_t writer = 0;
  const auto [end, error] = std::from_chars(file.data() + 1, file.data() + file.size(), writer);
  return error == std::errc() && end == file.data() + file.size() ? writer : 0;
}

// A checkpoint may be gigabytes: what a killed run left of one must not stay for good.
void remove_leftovers(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  std::error_code ignored;
  for (fs::directory_iterator entry(folder_of(path), ignored), end; entry != end; entry.increment(ignored)) {
    const pid_t writer = writer_of(entry->path().filename().string(), name);
    const bool mine = writer == ::gettid();
    if (writer > 0 && (mine || (::kill(writer, 0) != 0 && errno == ESRCH))) fs::remove_all(entry->path(), ignored);
    if (ignored) return;
  }
}

void rename_or_throw(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw_system_error("rename the finished file to", to);
}

void sync_tree(const std::string& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() || entry.is_directory()) sync_path(entry.path().string());
  sync_path(folder);
}

/// Of the files and folders that are written beside their place: the place, which is the name that the user gave.
std::string final_path(const std::string& path) {
  fs::path shown;
  for (const fs::path& part : fs::path(path)) {
    const std::string name = part.string();
    const std::size_t number = name.size() > kTemporarySuffix.size() ? name.rfind('.', name.size() - kTemporarySuffix.size() - 1) : 0;
    const bool temporary = number != 0 && number != std::string::npos && writer_of(name, name.substr(0, number)) > 0;
    shown /= temporary ? name.substr(0, number) : name;
  }
  return shown.string();
}

}  // namespace

void throw_system_error(std::string_view doing, const std::string& path) {
  throw std::system_error(errno, std::generic_category(), "cannot " + std::string(doing) + " " + final_path(path));
}

void begin_to_write(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.is_open()) begin_to_write(file.get());
}

void write_all(int file, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(file, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_system_error("write", path);
    content.remove_prefix(static_cast<std::size_t>(written));
  }
}

long chosen_fail_point() {
  const char* text = std::getenv("ELASTIFORM_FAIL_POINT");
  if (text == nullptr) return 0;
  long wanted = 0;
  const std::string_view value(text);
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), wanted);
  if (error != std::errc() || end != value.data() + value.size() || wanted < 1)
    throw InputError({"ELASTIFORM_FAIL_POINT", "a number from 1", std::string(value), "unset it outside tests"});
  return wanted;
}

void fail_point() {
  static std::atomic<long> passed{0};
  const long wanted = chosen_fail_point();
  if (wanted > 0 && ++passed == wanted) ::raise(SIGKILL);
}

DurableFile::DurableFile(const std::string& path) : path_(path), temporary_(temporary_of(path)) { remove_leftovers(path); }

DurableFile::~DurableFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void DurableFile::commit() {
  fail_point();
  if (Filling* const whole = Filling::of(path_)) {
    whole->take(temporary_);
    rename_or_throw(temporary_, path_);
    temporary_.clear();
    return fail_point();
  }
  sync_path(temporary_);
  fail_point();
  rename_or_throw(temporary_, path_);
  temporary_.clear();
  fail_point();
  sync_path(folder_of(path_));
  fail_point();
}

void write_durably(const std::string& path, std::string_view content) {
  write_durably(path, [&](const std::string& temporary) {
    const FileDescriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!file.is_open()) throw_system_error("create", path);
    // In two parts, so that a test can stop inside a file as well as between files.
    write_all(file.get(), content.substr(0, content.size() / 2), path);
    fail_point();
    write_all(file.get(), content.substr(content.size() / 2), path);
  });
}

void write_durably(const std::string& path, const std::function<void(const std::string&)>& write) {
  DurableFile file(path);
  write(file.temporary());
  file.commit();
}

void create_file_durably(const std::string& path, const std::function<void(const std::string&)>& write) {
  DurableFile file(path);
  {
    Filling filling(file.temporary());
    write(file.temporary());
    filling.sync();
  }
  fail_point();
  sync_path(file.temporary());
  fail_point();
  if (::renameat2(AT_FDCWD, file.temporary().c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno == EEXIST) throw InputError({path, "nothing there yet", "something", "choose another path or remove it"});
    if (errno != EINVAL) throw_system_error("create", path);
    return file.commit();  // file systems without the flag
  }
  fail_point();
  sync_path(folder_of(path));
  fail_point();
}

void create_folder_durably(const std::string& typed, const std::function<void(const std::string&)>& fill) {
  fs::path normal = fs::path(typed).lexically_normal();
  if (!normal.has_filename()) normal = normal.parent_path();  // "exports/a/" names exports/a
  const std::string path = normal.string();
  const InputError exists({path, "nothing there yet", "something", "choose another path or remove it"});
  if (fs::exists(fs::symlink_status(path))) throw exists;
  remove_leftovers(path);
  const std::string temporary = temporary_of(path);
  if (::mkdir(temporary.c_str(), 0777) != 0) throw_system_error("create", path);
  try {
    {
      Filling filling(temporary);
      fill(temporary);
      filling.sync();
    }
    fail_point();
    sync_tree(temporary);
    fail_point();
    // Plain rename would replace an empty folder that appeared meanwhile; file systems without the flag answer EINVAL.
    if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) != 0) {
      if (errno == EEXIST) throw exists;
      if (errno != EINVAL) throw_system_error("create", path);
      rename_or_throw(temporary, path);
    }
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  fail_point();
  sync_path(folder_of(path));
  fail_point();
}

FolderLock::FolderLock(const std::string& folder, const std::string& name, std::chrono::milliseconds patience) {
  const std::string path = folder + "/" + name;
  FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (!file.is_open()) {
    const std::string reason = std::generic_category().message(errno);
    throw InputError({folder, "a folder that can be written to", reason, ""});
  }
  const auto end = std::chrono::steady_clock::now() + patience;
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) throw_system_error("lock", path);
    if (std::chrono::steady_clock::now() < end) {
      ::usleep(20'000);
      continue;
    }
    char owner[256] = {};
    const ssize_t length = ::pread(file.get(), owner, sizeof owner - 1, 0);
    throw FolderLocked(
        {folder, "no other writer", length > 0 ? std::string(owner, static_cast<std::size_t>(length)) : "one", "wait until it has ended"});
  }
  char host[128] = {};
  ::gethostname(host, sizeof host - 1);
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char since[32];
  std::strftime(since, sizeof since, "%Y-%m-%d %H:%M:%S UTC", &parts);
  const std::string owner = "process " + std::to_string(::getpid()) + " on " + host + " since " + since;
  // The lock is held already; a full disk only leaves it without its owner's name, and what reads alone must still work there.
  if (::ftruncate(file.get(), 0) != 0 || ::pwrite(file.get(), owner.data(), owner.size(), 0) < 0) {
  }
  file_ = file.release();
}

FolderLock::~FolderLock() {
  if (file_ < 0) return;
  // The file stays: removing it would let a third process lock a new one while a second still waits for this one.
  if (::ftruncate(file_, 0) != 0) {
  }
  ::close(file_);
}

}  // namespace elastiform
