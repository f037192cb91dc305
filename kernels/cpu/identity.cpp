#include "kernels/cpu/identity.hpp"

#include "kernels/cpu/targets.hpp"
// clang-format off
#include <hwy/targets.h>  // after targets.hpp, or HWY_TARGETS holds what is not built
// clang-format on

namespace elastiform {

std::string isa_name() {
  const auto targets = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(targets & -targets);  // the lowest set bit is the best target that code was built for
}

std::string compiler_name() {
#ifdef __clang__
  return "clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

}  // namespace elastiform
