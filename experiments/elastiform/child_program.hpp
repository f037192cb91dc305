#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace elastiform {

struct ChildResult {
  int status = -1;  // -1: it could not be started or was killed
  std::string out;  // its stdout; stderr is ours
};

/// Runs a program, named by its path, to its end. `input`: its stdin; without it, ours.
ChildResult run_child(std::vector<std::string> arguments, std::string_view input = {});

}  // namespace elastiform
