#include "kernels/cpu/identity.hpp"

#include <dnnl.hpp>

#include "kernels/cpu/targets.hpp"
// clang-format off
#include <hwy/targets.h>  // after targets.hpp, or HWY_TARGETS holds what is not built
// clang-format on

namespace elastiform {

std::string isa_name() {
  const auto targets = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(targets & -targets);  // the lowest set bit is the best target that code was built for
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
}

}  // namespace elastiform
