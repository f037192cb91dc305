#include "experiments/elastiform/child_program.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "supernet/storage/file_descriptor.hpp"

namespace elastiform {
namespace {

/// A file without a name that holds `input`, at its beginning: unlike a pipe it never waits for who reads it.
FileDescriptor file_of(std::string_view input) {
  FileDescriptor file(::memfd_create("stdin", MFD_CLOEXEC));
  if (!file.is_open()) throw_system_error("create", "stdin of a program");
  write_all(file.get(), input, "stdin of a program");
  if (::lseek(file.get(), 0, SEEK_SET) != 0) throw_system_error("rewind", "stdin of a program");
  return file;
}

}  // namespace

ChildResult run_child(std::vector<std::string> arguments, std::string_view input) {
  const FileDescriptor in = input.empty() ? FileDescriptor(-1) : file_of(input);
  ChildResult result;
  std::vector<char*> argv;
  for (auto& text : arguments) argv.push_back(text.data());
  argv.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return result;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  if (in.is_open()) posix_spawn_file_actions_adddup2(&actions, in.get(), 0);
  pid_t child = -1;
  const int failed = ::posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  char buffer[4096];
  for (ssize_t got; failed == 0 && ((got = ::read(ends[0], buffer, sizeof buffer)) > 0 || (got < 0 && errno == EINTR));)
    if (got > 0) result.out.append(buffer, static_cast<std::size_t>(got));
  ::close(ends[0]);
  if (failed != 0) return result;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
  return result;
}

}  // namespace elastiform
