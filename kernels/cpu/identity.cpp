#include "kernels/cpu/identity.hpp"

#include "kernels/cpu/targets.hpp"
// clang-format off
#include <hwy/targets.h>  // after targets.hpp, or HWY_TARGETS holds what is not built
// clang-format on

#include <cstdlib>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

bool apply_isa_variable() {
  const char* variable = std::getenv("ELASTIFORM_ISA");
  if (!variable || !*variable) return false;
  std::string names;
  std::int64_t better = 0;  // the list begins with the best target
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const std::string name = hwy::TargetName(target);
    if (name == variable) {
      hwy::DisableTargets(better);
      return true;
    }
    names += (names.empty() ? "" : ", ") + name;
    better |= target;
  }
  throw InputError({"ELASTIFORM_ISA", "one of " + names, '"' + std::string(variable) + '"', ""});
}

}  // namespace

void choose_isa() {
  static const bool chosen = apply_isa_variable();
  static_cast<void>(chosen);
}

std::string isa_name() {
  choose_isa();
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
