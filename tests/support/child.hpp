#pragma once

#include <functional>
#include <string>

namespace elastiform {

/// How a child process ended, and what it had written to standard error.
struct ChildResult {
  int signal = 0;     // that killed it
  int exit_code = 0;  // if none did
  std::string errors;
  bool ended_well() const { return signal == 0 && exit_code == 0; }
};

/// Runs body() in a child process, which ends with the status that it returns; an exception is status 125.
ChildResult run_in_child(const std::function<int()>& body);

}  // namespace elastiform
