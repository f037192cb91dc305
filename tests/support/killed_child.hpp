#pragma once

#include <functional>

namespace elastiform {

/// Runs body(acknowledge) in a child process that is killed at the n-th fail point of storage (n = 0: at none). The child calls
/// acknowledge() for each thing that it may promise from then on.
struct ChildEnd {
  bool killed = false;  // false: body came to its end
  int acknowledged = 0;
};
ChildEnd run_killed_at(int n, const std::function<void(const std::function<void()>& acknowledge)>& body);

/// The same for n = 1, 2, 3, … until the body comes to its end: before(n), the child, after(n, its end). Returns how many were killed.
int kill_at_every_point(const std::function<void()>& before, const std::function<void(const std::function<void()>&)>& body,
                        const std::function<void(int n, const ChildEnd& end)>& after);

}  // namespace elastiform
