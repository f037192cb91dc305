#pragma once

#include <functional>
#include <string>
#include <vector>

namespace elastiform {

/// Runs this program with other arguments, its output appended to a log, and waits; every few seconds meanwhile() is called. The child lives
/// no longer than this process, however that ends. Ctrl-C is handed on to it, once: a training saves what it has. Returns its exit status;
/// 128 + signal when it was killed.
int run_self(const std::vector<std::string>& arguments, const std::string& log, const std::function<void()>& meanwhile);

}  // namespace elastiform
