#include "kernels/cpu/identity.hpp"

#include <dnnl.hpp>
#include <hwy/targets.h>

namespace elastiform {

std::string isa_name() {
  const auto targets = hwy::SupportedTargets();
  return hwy::TargetName(targets & -targets);  // the lowest set bit is the best target
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
}

}  // namespace elastiform
