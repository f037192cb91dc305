#include "kernels/cpu/identity.hpp"

#include "kernels/cpu/targets.hpp"
// clang-format off
#include <hwy/targets.h>  // after targets.hpp, or HWY_TARGETS holds what is not built
// clang-format on

#include <cstdlib>
#include <fstream>
#include <string_view>

#include "kernels/cpu/bf16_tiles.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

constexpr std::string_view kTiles = "+AMX";

/// Disables what is better than the variable asks for. Returns whether AMX may be used.
bool apply_isa_variable() {
  const char* variable = std::getenv("ELASTIFORM_ISA");
  if (!variable || !*variable) return true;
  std::string names;
  std::int64_t better = 0;  // the list begins with the best target
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const std::string name = hwy::TargetName(target), with_tiles = name + std::string(kTiles);
    const bool tiles = name.rfind("AVX3", 0) == 0 && cpu::cpu_offers_bf16_tiles();
    if (name == variable || (tiles && with_tiles == variable)) {
      hwy::DisableTargets(better);
      return with_tiles == variable;
    }
    names += (names.empty() ? "" : ", ") + (tiles ? with_tiles + ", " : "") + name;
    better |= target;
  }
  throw InputError({"ELASTIFORM_ISA", "one of " + names, '"' + std::string(variable) + '"', ""});
}

}  // namespace

bool isa_allows_tiles() {
  static const bool tiles = apply_isa_variable();
  return tiles;
}

void choose_isa() { static_cast<void>(isa_allows_tiles()); }

std::string isa_name(Precision precision) {
  choose_isa();
  const auto targets = hwy::SupportedTargets() & HWY_TARGETS;
  const std::string name = hwy::TargetName(targets & -targets);  // the lowest set bit is the best target that code was built for
  return precision == Precision::bf16 && cpu::has_bf16_tiles() ? name + std::string(kTiles) : name;
}

std::string compiler_name() {
#ifdef __clang__
  return "clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (const auto at = line.find(": "); line.rfind("model name", 0) == 0 && at != std::string::npos) return line.substr(at + 2);
  return "unnamed processor";
}

}  // namespace elastiform
