#include "tests/support/killed_child.hpp"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <exception>
#include <stdexcept>
#include <string>

namespace elastiform {

ChildEnd run_killed_at(int n, const std::function<void(const std::function<void()>&)>& body) {
  int pipe_ends[2];
  if (::pipe(pipe_ends) != 0) throw std::runtime_error("no pipe");
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("no child process");
  if (child == 0) {
    int status = 0;
    try {
      if (n > 0) ::setenv("ELASTIFORM_FAIL_POINT", std::to_string(n).c_str(), 1);
      body([&] {
        if (::write(pipe_ends[1], "x", 1) != 1) ::_exit(3);
      });
    } catch (const std::exception&) {
      status = 2;
    }
    ::_exit(status);  // no destructors or reports of the parent's
  }
  ::close(pipe_ends[1]);
  ChildEnd end;
  char byte = 0;
  while (::read(pipe_ends[0], &byte, 1) == 1) ++end.acknowledged;
  ::close(pipe_ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  end.killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  if (!end.killed && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
    throw std::runtime_error("child ended with status " + std::to_string(status) + " at fail point " + std::to_string(n));
  return end;
}

int kill_at_every_point(const std::function<void()>& before, const std::function<void(const std::function<void()>&)>& body,
                        const std::function<void(int, const ChildEnd&)>& after) {
  constexpr int kMost = 1000;  // more than any body has
  for (int n = 1; n <= kMost; ++n) {
    before();
    const ChildEnd end = run_killed_at(n, body);
    after(n, end);
    if (!end.killed) return n - 1;
  }
  throw std::runtime_error("the body never came to its end");
}

}  // namespace elastiform
