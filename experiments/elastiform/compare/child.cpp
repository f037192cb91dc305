#include "experiments/elastiform/compare/child.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <system_error>
#include <thread>

#include "experiments/elastiform/command_line.hpp"

namespace elastiform {
namespace {

constexpr std::chrono::milliseconds kNap{20};
constexpr std::chrono::seconds kMeanwhile{5};

[[noreturn]] void fail() { throw std::system_error(errno, std::generic_category(), "a process that trains"); }

// Between fork and exec of a process with threads: system calls alone.
[[noreturn]] void become_child(char* const* words, const char* log, pid_t parent) {
  // A terminal's Ctrl-C goes to the parent's group alone: twice would end a training without saving.
  ::signal(SIGINT, SIG_DFL);
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // it died before it could be watched
  const int in = ::open("/dev/null", O_RDONLY | O_CLOEXEC), out = ::open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (in < 0 || out < 0 || ::dup2(in, STDIN_FILENO) < 0 || ::dup2(out, STDOUT_FILENO) < 0 || ::dup2(out, STDERR_FILENO) < 0) ::_exit(126);
  ::execv("/proc/self/exe", words);
  ::_exit(127);
}

pid_t start_self(const std::vector<std::string>& arguments, const std::string& log) {
  std::vector<std::string> copies = {"elastiform"};
  copies.insert(copies.end(), arguments.begin(), arguments.end());
  std::vector<char*> words;
  for (std::string& word : copies) words.push_back(word.data());
  words.push_back(nullptr);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child < 0) fail();
  if (child == 0) become_child(words.data(), log.c_str(), parent);
  return child;
}

}  // namespace

int run_self(const std::vector<std::string>& arguments, const std::string& log, const std::function<void()>& meanwhile) {
  const pid_t child = start_self(arguments, log);
  auto called = std::chrono::steady_clock::now();
  bool told = false;
  for (int status = 0;;) {
    std::this_thread::sleep_for(kNap);
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended < 0 && errno != EINTR) fail();
    if (ended == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (interrupted() && !told) told = ::kill(child, SIGINT) == 0;
    if (const auto now = std::chrono::steady_clock::now(); now - called >= kMeanwhile) {
      meanwhile();
      called = now;
    }
  }
}

}  // namespace elastiform
