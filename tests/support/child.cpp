#include "tests/support/child.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <exception>
#include <stdexcept>

namespace elastiform {

ChildResult run_in_child(const std::function<int()>& body) {
  constexpr int kException = 125;
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("no pipe");
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("no child process");
  if (child == 0) {
    int status = kException;
    constexpr unsigned int kSeconds = 120;
    ::alarm(kSeconds);  // a child that hangs is killed
    ::dup2(ends[1], STDERR_FILENO);
    for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) ::signal(signal, SIG_DFL);  // not the test program's reports
    try {
      status = body();
    } catch (const std::exception&) {
    }
    ::_exit(status);  // no destructors or reports of the parent's
  }
  ::close(ends[1]);
  ChildResult result;
  char bytes[4096];
  for (ssize_t got = 0; (got = ::read(ends[0], bytes, sizeof bytes)) > 0;) result.errors.append(bytes, static_cast<std::size_t>(got));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  else result.exit_code = WEXITSTATUS(status);
  return result;
}

}  // namespace elastiform
