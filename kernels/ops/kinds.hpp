#pragma once

#include <cstdint>

namespace elastiform {

enum class Norm : std::uint8_t { rms, layer };
enum class Gelu : std::uint8_t { tanh, erf };

/// Backend::panels() hands out this many rows at a time: wide enough for a GEMM at full speed, small enough that a panel's
/// activations stay in L2 (docs/performance.md). A constant, so bits do not depend on the thread count.
constexpr std::int64_t kPanelRows = 256;
/// The panel of a device whose operations are parallel inside: all rows at once.
constexpr std::int64_t kAllRows = std::int64_t{1} << 40;

/// Sums over tokens are cut into chunks of this many rows; partial results are added in a fixed tree.
constexpr std::int64_t kRowChunk = 128;
/// Sums over elements are cut into chunks of this many elements.
constexpr std::int64_t kElementChunk = 4096;

}  // namespace elastiform
