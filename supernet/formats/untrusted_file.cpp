#include "supernet/formats/untrusted_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

InputError unreadable(const std::string& path) { return InputError({path, "a readable file", std::generic_category().message(errno), ""}); }

}  // namespace

UntrustedFile::UntrustedFile(const std::string& path, const char* kind)
    : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  struct stat status {};
  if (!file_.is_open() || ::fstat(file_.get(), &status) != 0) throw unreadable(path);
  if (!S_ISREG(status.st_mode)) throw InputError({path, kind, "no regular file", ""});  // a pipe did not block above
  size_ = static_cast<std::uint64_t>(status.st_size);
}

void UntrustedFile::read(std::uint64_t at, void* into, std::uint64_t bytes) const {
  struct stat now {};
  if (::fstat(file_.get(), &now) != 0) throw unreadable(path_);
  if (static_cast<std::uint64_t>(now.st_size) != size_)
    throw InputError({path_, std::to_string(size_) + " bytes", std::to_string(now.st_size), "it was changed while it was read"});
  for (std::uint64_t done = 0; done < bytes;) {
    const ssize_t got =
        ::pread(file_.get(), static_cast<char*>(into) + done, static_cast<std::size_t>(bytes - done), static_cast<off_t>(at + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw unreadable(path_);
    if (got == 0) throw InputError({path_, std::to_string(size_) + " bytes", "fewer", "it was changed while it was read"});
    done += static_cast<std::uint64_t>(got);
  }
}

}  // namespace elastiform
